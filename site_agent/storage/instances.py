"""Process starts (ADR 0006)."""

from site_agent.storage.database import Transaction


def add_instance(tx: Transaction, instance: str, started_at: str) -> None:
    """Note a start."""
    tx.add("instance", instance=instance, started_at=started_at, confirmed=False)


def set_confirmed(tx: Transaction, instance: str) -> None:
    """Note that the coordinator answered this instance; older starts are of no interest any more."""
    tx.run("UPDATE instance SET confirmed = 1 WHERE instance = :instance", instance=instance)
    tx.run(
        "DELETE FROM instance WHERE number < (SELECT number FROM instance WHERE instance = :instance)",
        instance=instance,
    )


def read_earlier(tx: Transaction, instance: str) -> list[str]:
    """Return the earlier starts, newest first, back to the last one that the coordinator is known to have seen."""
    found: list[str] = []
    for row in tx.rows(
        "SELECT instance, confirmed FROM instance WHERE number <"
        " (SELECT number FROM instance WHERE instance = :instance) ORDER BY number DESC",
        instance=instance,
    ):
        found.append(row.instance)
        if row.confirmed:
            break
    return found
