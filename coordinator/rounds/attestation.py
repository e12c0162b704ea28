"""R5 at the coordinator: sites that computed the same model version themselves (PROTOCOLS A7)."""

from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.rounds.machine import is_accepted
from coordinator.sites import SitePrincipal
from coordinator.storage import rosters, rounds
from coordinator.storage.database import Transaction
from shared.crypto.signed_envelope import SignedMessage
from shared.errors import InputError, PeerFault, Refusal
from shared.protocol.outcome import Attestation


def accept(
    tx: Transaction, log: AuditLog, principal: SitePrincipal, message: SignedMessage, ctx_hash: str, now: datetime
) -> None:
    """Take an attestation of a published round, also from sites of the roster that were not invited to it.

    Raises:
        InputError: ``round_unknown``, ``statement_conflict``.
        Refusal: ``round_closed``, ``site_not_invited``.
        PeerFault: ``attestation_mismatch``, ``message_malformed``.
    """
    attestation = Attestation.check(message.body)
    site = principal.site
    round_ = rounds.read_round(tx, ctx_hash)
    if round_ is None:
        raise InputError("round_unknown", f"there is no context {ctx_hash[:64]!r}")
    roster = rosters.read_by_hash(tx, round_.ctx.roster)
    if roster is None or site not in roster.site_ids:
        raise Refusal("site_not_invited", f"{site} is not in the roster of this round")
    if not is_accepted(round_.state, "attestation"):
        raise Refusal("round_closed", f"the round is {round_.state}; there is nothing to attest")
    about = (attestation.study, attestation.round, attestation.ctx_hash)
    if about != (round_.study, round_.number, ctx_hash):
        raise PeerFault("attestation_mismatch", "the attestation is about another round")
    if attestation.model != round_.result_model:
        raise PeerFault(
            "attestation_mismatch", f"{site} computed model {attestation.model}, published is {round_.result_model}"
        )
    if site in rounds.read_attestations(tx, ctx_hash):
        raise InputError("statement_conflict", f"{site} has already attested this round")
    rounds.add_attestation(tx, round_.study, ctx_hash, site, attestation.model, message.envelope)
    data = {"ctx_hash": ctx_hash, "site": site, "model": attestation.model}
    fact = Fact(
        "round.attested", principal.actor, data, round_.study, ("round", ctx_hash), evidence=(message.envelope_digest,)
    )
    log.append_statement(tx, message, fact, now)
