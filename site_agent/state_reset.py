"""Is this state the newest one? Asked at every start, before anything is answered or sent (PROTOCOLS A10).

A folder restored from a backup, a virtual machine put back to a snapshot, a copy: each knows less than this site once
signed. The coordinator is asked for the site's last accepted message, which carries this site's own signature. If this
state does not hold it, the state is stale: what was under way is given up, the memory of what was sealed and decided
meanwhile is taken back from the site's own signed messages, `state.reset` is signed behind the newest of them, and the
site makes new pairing bundles before its next round. Nobody else is concerned.
"""

from datetime import datetime
from typing import Literal

from shared.canonical import from_b64u
from shared.clock import timestamp
from shared.crypto.signed_envelope import SignedMessage, open_envelope
from shared.errors import PeerFault
from shared.protocol.round_context import Context
from shared.protocol.state_reset import MOST_UNPROVED, KeptMessage, LastAccepted
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import SiteIdentity
from site_agent.outbox import Delivery
from site_agent.policy import deterministic_items
from site_agent.rounds.session import Session
from site_agent.rounds.wipe import wipe_round
from site_agent.signing import sign_and_queue
from site_agent.storage import notices, outbox, pairings, rounds, signed_messages
from site_agent.storage.database import Transaction
from site_agent.storage.signed_messages import FIRST_PREV, ChainEnd

MOST_INHERITED = 10**9
Reason = Literal["rollback", "second_agent"]


class StateCheck:
    """Settles at the start of an agent whether its state may be used."""

    def __init__(self, session: Session, instance: str) -> None:
        """Check in the name of this process's instance id."""
        self._session = session
        self._instance = instance
        self._delivery = Delivery(session)

    def settle(self) -> None:
        """Reset a stale state; see that a reset, also one of an earlier start, is delivered before anything else.

        Raises:
            InputError: ``instance_conflict``: the process that holds the lease is at work.
            PeerFault: ``chain_end_invalid``, ``signature_invalid``.
            Retry: the coordinator cannot be reached, or wants a pause between resets.
        """
        last = self._ask()
        if self._is_new_identity(last):
            inherit(self._session, last)
            return
        check_proof(self._session.identity, last)
        with self._session.database.reading("compare state") as tx:
            stale = is_stale(tx, last)
        if stale:
            reset(self._session, last, "rollback", self._instance)
        self._deliver()

    def take_over(self) -> None:
        """Reset because another agent holds the lease; the coordinator allows it when that one is gone.

        Raises: as `settle`.
        """
        last = self._ask()
        check_proof(self._session.identity, last)
        reset(self._session, last, "second_agent", self._instance)
        self._deliver()

    def _ask(self) -> LastAccepted:
        session = self._session
        with session.database.reading("last delivered") as tx:
            after = outbox.read_last_delivered(tx)
        return read_last_accepted(session.client, session.site, after)

    def _is_new_identity(self, last: LastAccepted) -> bool:
        """Return whether everything this site is said to have signed was signed before it enrolled anew."""
        with self._session.database.reading("did this identity sign") as tx:
            return last.seq > 0 and last.newest is None and signed_messages.read_end(tx).seq == 0

    def _deliver(self) -> None:
        while True:
            with self._session.database.reading("is a reset pending") as tx:
                item = outbox.read_next(tx)
            if item is None or item.kind != "state.reset":
                return
            self._delivery.deliver_next()


def read_last_accepted(client: CoordinatorClient, site: str, after: int) -> LastAccepted:
    """Return the last message of a site that the coordinator accepted, and its acts numbered above `after`."""
    return LastAccepted.check(client.request("GET", f"/v1/statements/{site}", query={"after": str(after)}).json())


def check_proof(identity: SiteIdentity, last: LastAccepted) -> None:
    """Check that this site signed what it is said to have signed.

    Released shares are not kept anywhere, so a few newest messages may come as bare numbers; believing those costs no
    more than a needless reset.

    Raises:
        PeerFault: ``chain_end_invalid``, ``signature_invalid``, ``envelope_malformed``.
    """
    proved = 0
    if last.newest is not None:
        message = _open(identity, last.newest)
        proved = int(message.body["seq"])
        if proved == last.seq and message.digest != last.digest:
            raise PeerFault("chain_end_invalid", f"message {proved} has another digest than the one named")
    if not proved <= last.seq <= proved + MOST_UNPROVED:
        raise PeerFault("chain_end_invalid", f"message {last.seq} is named, signatures prove {proved}")
    for act in last.acts:
        body = _open(identity, act.message).body
        named = body["stmt"]["ctx"] if act.message.kind == "decision" else body.get("ctx_hash")
        if named != act.ctx.ctx_hash:
            raise PeerFault("chain_end_invalid", "an act comes with another context than it names")


def inherit(session: Session, last: LastAccepted) -> None:
    """Go on behind what this site signed under an earlier identity key, and remember what it sealed then.

    Numbers count per site, not per key. Nothing here can be checked; a liar gains that this site leaves numbers out.

    Raises:
        PeerFault: ``chain_end_invalid``.
    """
    if last.seq > MOST_INHERITED:
        raise PeerFault("chain_end_invalid", f"this site is said to have signed {last.seq} messages before it enrolled")
    at = session.clock.now()
    with session.database.transaction("inherit numbers") as tx:
        for act in last.acts:
            _remember(tx, act.ctx, at)
        signed_messages.add_message(
            tx, last.seq, kind="earlier", subject="", digest=last.digest, prev=FIRST_PREV, signed_at=timestamp(at)
        )


def is_stale(tx: Transaction, last: LastAccepted) -> bool:
    """Return whether this site signed something that this state does not know of.

    Numbers that an earlier reset has jumped over are known of, though not what they stood for.
    """
    known = signed_messages.read_digest(tx, last.seq)
    return last.seq > signed_messages.read_end(tx).seq or known not in {None, last.digest}


def reset(session: Session, last: LastAccepted, reason: Reason, instance: str) -> None:
    """Give up what is under way, remember what was sealed meanwhile, and sign `state.reset` behind the newest message.

    What people decided and what still waits to be sent of it is signed again; everything else in the outbox is dropped.
    """
    now = session.clock.now()
    with session.database.transaction("reset state") as tx:
        own = signed_messages.read_end(tx)
        wiped = rounds.read_open_rounds(tx)
        for stored in wiped:
            wipe_round(tx, stored, "the state was reset")
        for act in last.acts:
            _remember(tx, act.ctx, now)
        pairings.erase_own(tx)
        decided = [item for item in outbox.take_back(tx) if item.kind == "approval"]
        forgotten = is_stale(tx, last)
        body = {"v": "SA1", "kind": "state.reset", "reason": reason, "instance": instance, "knew": own.seq}
        sign_and_queue(
            tx, session.identity, "state.reset", body, path=f"/v1/state-resets/{session.site}", now=now,
            follows=ChainEnd(max(own.seq, last.seq), last.digest) if forgotten else None,
        )  # fmt: skip
        for item in decided:
            message = open_envelope(item.body, "approval", {session.site: session.identity.idk.verify_key})
            again = {key: value for key, value in message.body.items() if key not in {"site", "seq", "prev"}}
            sign_and_queue(tx, session.identity, "approval", again, path=item.path, now=now, study=item.study)
        detail = f"this state knew of message {own.seq}, this site has signed {last.seq} ({reason})"
        notices.add_notice(tx, "state_was_reset", "state", detail, timestamp(now))
        tx.after_commit.append(session.queued)
    for stored in wiped:
        session.desk.give_up(stored.study, stored.ctx_hash)
        session.folder.erase_round(stored.ctx_hash)
    session.log.warning("state was reset", reason=reason, knew=own.seq, signed=last.seq)


def _remember(tx: Transaction, ctx: Context, now: datetime) -> None:
    """Leave the tombstone of a context that this site sealed or decided and this state forgot (W5)."""
    if rounds.read_round(tx, ctx.ctx_hash) is None and not rounds.is_bound(tx, ctx.study, ctx.round, ctx.kind):
        rounds.add_round(tx, ctx, upload_until=None, bound_at=timestamp(now))
        rounds.set_wiped(tx, ctx.ctx_hash, "the state was reset")
    for model, item in deterministic_items(ctx):
        if rounds.read_released_item(tx, ctx.study, model, item) is None:
            rounds.add_released_item(tx, ctx.study, model, item, ctx.ctx_hash)


def _open(identity: SiteIdentity, kept: KeptMessage) -> SignedMessage:
    message = open_envelope(from_b64u(kept.envelope), kept.kind, {identity.site: identity.idk.verify_key})
    if message.body.get("site") != identity.site or not isinstance(message.body.get("seq"), int):
        raise PeerFault("chain_end_invalid", "a message is not one of this site's chain")
    return message
