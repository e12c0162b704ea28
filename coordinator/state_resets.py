"""Where a site's chain of signed messages ends, and sites that start afresh because they lost state (PROTOCOLS A10)."""

import json
from datetime import datetime, timedelta

from coordinator.audit import AuditLog, Fact
from coordinator.blobs.uploads import Uploads
from coordinator.presence import Presence
from coordinator.rounds import masked_update
from coordinator.sites import SitePrincipal
from coordinator.storage import log as stored_log
from coordinator.storage import pairings, rounds, statements, studies
from coordinator.storage import sites as stored_sites
from coordinator.storage.database import Transaction
from coordinator.storage.statements import Statement
from shared.canonical import JsonObject, b64u, from_b64u
from shared.clock import parse_timestamp, timestamp
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import SignedMessage, open_envelope
from shared.errors import InputError, PeerFault, Unavailable
from shared.protocol.state_reset import KeptAct, KeptMessage, LastAccepted, StateReset

_REFUSAL = "state_was_reset"
_ACTS = ("manifest", "decision")
_REMEMBERED = timedelta(days=1)
_FIRST_PAUSE = timedelta(minutes=1)


def last_accepted(tx: Transaction, site: str, after: int) -> LastAccepted:
    """Return the end of a site's chain, its newest kept message, and its acts with numbers above `after`.

    The newest message is left out if the site signed it before it enrolled anew, under another identity key.
    """
    newest = statements.read_newest(tx, site)
    kept = statements.read_newest(tx, site, kept=True)
    shown = None if kept is None else _kept(tx, kept)
    acts = []
    for act in statements.read_after(tx, site, after, _ACTS):
        round_ = rounds.read_round(tx, _leaf(tx, act).get("data", {}).get("ctx_hash", ""))
        message = _kept(tx, act)
        if round_ is not None and message is not None:
            acts.append(KeptAct(message=message, ctx=round_.ctx))
    return LastAccepted(
        seq=0 if newest is None else newest.seq,
        digest="0" * 64 if newest is None else newest.digest,
        newest=shown if shown is not None and _is_of_present_key(tx, site, shown) else None,
        acts=acts,
    )


def accept(
    tx: Transaction, log: AuditLog, uploads: Uploads, presence: Presence, principal: SitePrincipal,
    message: SignedMessage, now: datetime, *, holder_is_here: bool,
) -> None:  # fmt: skip
    """Take a reset: the site's lease goes to the process that signed, and it makes new bundles before its next round.

    Nobody else is concerned: rounds under way go on, without this site where it has not uploaded. `holder_is_here` says
    whether the process that holds the lease was heard of recently; it must be stopped before another one takes over.

    Raises:
        InputError: ``instance_conflict``.
        Unavailable: ``reset_too_soon``: each reset of one day doubles the pause before the next (attack table row 29).
        PeerFault: ``message_malformed``.
    """
    reset = StateReset.check(message.body)
    site = stored_sites.read_site(tx, principal.site)
    if site is None:
        raise InputError("site_unknown", f"there is no site {principal.site!r}")
    others = site.instance not in {"", reset.instance}
    if others and holder_is_here:
        raise InputError("instance_conflict", f"another agent of {site.site} is at work; it has to be stopped first")
    _check_pause(tx, site.site, now)
    superseded = [one for one in site.superseded_instances if one != reset.instance]
    stored_sites.set_instance(
        tx, site.site, reset.instance, [*superseded[-49:], site.instance] if others else superseded
    )
    for study in studies.read_studies(tx):
        if site.site in study.plan.sites:
            pairings.set_renew(tx, study.study, [site.site])
            tx.touch(f"study/{study.study}")
    tx.touch("agents", "operators")
    data = {"site": site.site, "reason": reset.reason, "knew": reset.knew, "payload_sha256": message.digest}
    evidence = (message.envelope_digest,)
    fact = Fact("state.reset", principal.actor, data, subject=("site", site.site), evidence=evidence)
    log.append_statement(tx, message, fact, now)
    for live in rounds.read_all_live(tx):
        if live.state == "OPEN" and live.ctx_hash is not None and site.site in live.ctx.sites:
            answered = {*rounds.read_uploaders(tx, live.ctx_hash), *rounds.read_refusals(tx, live.ctx_hash)}
            if site.site not in answered:  # nobody waits for what cannot come
                rounds.add_refusal(tx, live.ctx_hash, site.site, _REFUSAL, "the site lost state and starts afresh")
                masked_update.on_deadline(tx, log, uploads, presence, live, now)


def _check_pause(tx: Transaction, site: str, now: datetime) -> None:
    earlier = statements.read_times(tx, site, "state.reset", timestamp(now - _REMEMBERED))
    if not earlier:
        return
    pause = min(_FIRST_PAUSE * 2 ** min(len(earlier) - 1, 20), _REMEMBERED)
    again = parse_timestamp(earlier[-1]) + pause
    if now < again:
        raise Unavailable(
            "reset_too_soon", f"{site} reset {len(earlier)} times within a day; again from {timestamp(again)}"
        )


def _kept(tx: Transaction, statement: Statement) -> KeptMessage | None:
    for evidence in _leaf(tx, statement).get("evidence", []):
        envelope = stored_log.read_dsse_of(tx, evidence["sha256"])
        if envelope is not None:
            return KeptMessage.check({"kind": statement.kind, "envelope": b64u(envelope)})
    return None


def _is_of_present_key(tx: Transaction, site: str, kept: KeptMessage) -> bool:
    found = stored_sites.read_site(tx, site)
    if found is None or found.idk is None:
        return False
    try:
        open_envelope(from_b64u(kept.envelope), kept.kind, {site: VerifyKey.from_bytes(found.idk)})
    except PeerFault:
        return False
    return True


def _leaf(tx: Transaction, statement: Statement) -> JsonObject:
    leaf = stored_log.read_leaf(tx, statement.log_index)
    found: JsonObject = {} if leaf is None else json.loads(leaf.leaf)
    return found
