"""Who an operator is at the identity provider."""

from coordinator.storage.database import Transaction


def read_identity(tx: Transaction, issuer: str, subject: str) -> str | None:
    """Return the operator who is bound to a provider's subject."""
    sql = "SELECT operator FROM oidc_identity WHERE issuer = :issuer AND subject = :subject"
    found: str | None = tx.value(sql, issuer=issuer, subject=subject)
    return found


def has_identity(tx: Transaction, operator: str) -> bool:
    """Return whether an operator is bound to anybody at the provider."""
    return tx.row("SELECT 1 FROM oidc_identity WHERE operator = :operator", operator=operator) is not None


def add_identity(tx: Transaction, operator: str, issuer: str, subject: str, at: str) -> None:
    """Bind an operator."""
    tx.add("oidc_identity", operator=operator, issuer=issuer, subject=subject, bound_at=at)


def drop_identity(tx: Transaction, operator: str) -> None:
    """Unbind an operator."""
    tx.run("DELETE FROM oidc_identity WHERE operator = :operator", operator=operator)
