"""Delivering: every signed message reaches the coordinator, in order, until its receipt verifies.

Nothing is forgotten before a receipt signed by the roster's coordinator names it, so a message survives any crash and
counts once: the coordinator answers the same bytes with the same receipt.
"""

import threading
from collections.abc import Callable
from pathlib import Path

from shared.audit.log_checkpoint import decode_vkey
from shared.audit.merkle import leaf_hash
from shared.audit.proofs import verify_inclusion_bundle
from shared.canonical import JsonObject, from_b64u, sha256_hex
from shared.clock import timestamp
from shared.crypto.identity import VerifyKey
from shared.crypto.signed_envelope import open_envelope
from shared.errors import MitralError, PeerFault, Refusal, Unavailable
from shared.ids import COORDINATOR
from shared.protocol.masked_update import Receipt
from shared.secagg.roster import coordinator_key
from site_agent.answers import Answer
from site_agent.backoff import Backoff
from site_agent.rounds.machine import Event
from site_agent.rounds.masked_update import SHARES_FILE
from site_agent.rounds.session import Session
from site_agent.storage import log, notices, outbox, rosters, rounds
from site_agent.storage.database import ChangeWatch
from site_agent.storage.outbox import OutboxItem
from site_agent.traffic import Traffic

LOOK_SECONDS = 0.5  # how soon rows of the command line are noticed
_OCTETS = "application/octet-stream"
# The round went on without this message, or this site without the round; nobody needs to look at it.
_TOO_LATE = {"round_closed", "round_unknown", "round_wiped"}
# After a reset a site may say once more what it said before: the coordinator keeps the first one. A refusal may cross
# its own site's update: then the update counts.
_SAID_BEFORE = {
    ("approval", "statement_conflict"), ("attestation", "statement_conflict"), ("refusal", "upload_conflict"),
}  # fmt: skip
# These speak of the connection or of the caller, not of the message: it waits until they are set right.
_NOT_ITS_FAULT = {
    "body_truncated", "certificate_expired", "certificate_required", "certificate_superseded", "internal_error",
    "method_not_allowed", "no_principal", "request_malformed", "route_unknown", "site_mismatch", "site_not_approved",
    "site_unknown", "site_without_key",
}  # fmt: skip
# Nothing can be delivered any more: the site is out, or this state is older than what this site once signed.
FATAL = {"seq_reused", "site_revoked", "instance_conflict"}


class Delivery:
    """Takes messages to the coordinator one by one; knows which upload this process has begun."""

    def __init__(self, session: Session) -> None:
        """Start without having sent anything."""
        self._session = session
        self._begun: set[int] = set()

    def deliver_next(self) -> bool:
        """Deliver the oldest message; return whether there was one.

        Raises:
            Unavailable: try again; nothing is lost.
            MitralError: one of `FATAL`, or something that is not the message's fault; it stays.
            PeerFault: ``receipt_invalid``; the message stays.
        """
        session = self._session
        with session.database.reading("read outbox") as tx:
            item = outbox.read_next(tx)
        if item is None:
            return False
        try:
            answer = self._send(item)
        except Unavailable:
            raise
        except MitralError as error:
            if error.code in FATAL | _NOT_ITS_FAULT:
                raise
            self._reject(item, error)
            return True
        receipt, envelope = check_receipt(session, item, answer.json())
        with session.database.transaction("delivered") as tx:
            outbox.set_delivered(tx, item.seq, envelope, receipt.log_index)
            log.add_receipt(tx, item.seq, receipt.log_index, receipt.leaf_hash)
            stored = None if item.ctx_hash is None else rounds.read_round(tx, item.ctx_hash)
            if item.kind == "manifest" and stored is not None:
                session.move(tx, stored, Event.RECEIPT)
        self._begun.discard(item.seq)
        session.log.info("delivered", kind=item.kind, seq=item.seq, log_index=receipt.log_index)
        return True

    def _send(self, item: OutboxItem) -> Answer:
        if item.kind != "manifest":
            return self._session.client.put(item.path, item.body)
        with self._session.database.reading("what is masked") as tx:
            stored = rounds.read_round(tx, item.ctx_hash or "")
        figures = stored is not None and stored.kind != "update"
        traffic = Traffic.MASKED_METRICS if figures else Traffic.MASKED_UPDATE
        if item.seq not in self._begun and self._is_fresh(item):
            self._begun.add(item.seq)
            self._send_vector(item, traffic, missing_only=False)
            return self._put_manifest(item, traffic)
        # An earlier attempt may have got everything across: the manifest asks.
        try:
            return self._put_manifest(item, traffic)
        except PeerFault as error:
            if error.code != "upload_incomplete":
                raise
        self._send_vector(item, traffic, missing_only=True)
        return self._put_manifest(item, traffic)

    def _put_manifest(self, item: OutboxItem, traffic: Traffic) -> Answer:
        self._check_wanted(item)
        return self._session.client.put(item.path, item.body, traffic=traffic)

    def _is_fresh(self, item: OutboxItem) -> bool:
        """Return whether this process sealed the vector itself, so that nothing can have been sent before."""
        return item.seq in self._session.sealed_here

    def _send_vector(self, item: OutboxItem, traffic: Traffic, *, missing_only: bool) -> None:
        ctx_hash, site, client = item.ctx_hash or "", self._session.site, self._session.client
        folder = self._session.folder.upload(ctx_hash)
        with self._session.database.reading("read upload") as tx:
            upload = rounds.read_upload(tx, ctx_hash)
        expected = [] if upload is None else upload.chunk_sha256
        there = client.read_uploaded_chunks(ctx_hash, site) if missing_only else {}
        for index, digest in enumerate(expected):
            if there.get(str(index)) != digest:
                self._check_wanted(item)
                chunk = _read_sealed(folder / str(index))
                # What this process has just sealed and written is not read with suspicion.
                if missing_only and sha256_hex(chunk) != digest:
                    raise PeerFault("upload_damaged", f"chunk {index} of {ctx_hash} is not what was sealed")
                path = f"/v1/rounds/{ctx_hash}/uploads/{site}/{index}"
                client.put(path, chunk, media_type=_OCTETS, traffic=traffic)
        self._check_wanted(item)
        client.put(f"/v1/rounds/{ctx_hash}/shares/{site}", _read_sealed(folder / SHARES_FILE), media_type=_OCTETS)

    def _check_wanted(self, item: OutboxItem) -> None:
        with self._session.database.reading("is it still wanted") as tx:
            if not outbox.is_pending(tx, item.seq):  # withdrawn or over, while its chunks were on their way
                raise Refusal("round_wiped", f"{item.ctx_hash} is over here; nothing more of it is sent")

    def _reject(self, item: OutboxItem, error: MitralError) -> None:
        """Put a message aside that the coordinator will never take."""
        session = self._session
        with session.database.transaction("rejected") as tx:
            outbox.set_rejected(tx, item.seq, error.code)
            if error.code not in _TOO_LATE and (item.kind, error.code) not in _SAID_BEFORE:
                at = timestamp(session.clock.now())
                notices.add_notice(tx, error.code, f"{item.kind} {item.seq}", error.detail, at)
        session.log.warning("rejected", kind=item.kind, seq=item.seq, code=error.code, detail=error.detail)


class DeliverLoop:
    """Owns the outbox; `wake` is called after every commit that queues something."""

    def __init__(
        self,
        session: Session,
        stop: threading.Event,
        fail: Callable[[MitralError], None],
        settled: threading.Event | None = None,
    ) -> None:
        """Prepare; `fail` is told why the agent cannot go on. Nothing is sent before `settled` is set, if given."""
        self._session = session
        self._stop = stop
        self._fail = fail
        self._settled = settled
        self._woken = threading.Event()
        self._delivery = Delivery(session)

    def wake(self) -> None:
        """Look into the outbox now."""
        self._woken.set()

    def run(self) -> None:
        """Deliver until `stop` is set."""
        watch = ChangeWatch(self._session.database.path)
        backoff = Backoff()
        try:
            while self._settled is not None and not self._stop.is_set() and not self._settled.wait(LOOK_SECONDS):
                pass
            while not self._stop.is_set():
                self._woken.clear()
                watch.changed()
                if self._deliver_all(backoff):
                    self._wait(watch)
        finally:
            watch.close()

    def _deliver_all(self, backoff: Backoff) -> bool:
        """Empty the outbox; return whether it is empty now."""
        try:
            while not self._stop.is_set() and self._delivery.deliver_next():
                backoff.reset()
        except MitralError as error:
            if error.code in FATAL:
                self._fail(error)
                return False
            if not isinstance(error, Unavailable):
                self._session.notice(error.code, "delivery", error.detail)
            self._session.log.info("delivery put off", code=error.code, detail=error.detail)
            self._woken.wait(backoff.next_seconds(getattr(error, "retry_after_seconds", None)))
            return False
        except Exception as error:  # noqa: BLE001 (a bug must be seen and must not end the loop)
            self._session.log.critical("unexpected failure", loop="deliver", error=error)
            backoff.wait(self._stop)
            return False
        return True

    def _wait(self, watch: ChangeWatch) -> None:
        while not self._stop.is_set() and not self._woken.wait(LOOK_SECONDS) and not watch.changed():
            pass


def check_receipt(session: Session, item: OutboxItem, answer: JsonObject) -> tuple[Receipt, bytes]:
    """Return the receipt in an answer if the pinned coordinator signed it for exactly this message.

    Raises:
        PeerFault: ``receipt_invalid``, ``signature_invalid`` and the like.
    """
    with session.database.reading("read coordinator key") as tx:
        active = rosters.read_active(tx)
    key: VerifyKey = session.identity.coordinator_idk if active is None else coordinator_key(active.roster)
    found = answer.get("receipt")
    if not isinstance(found, str):
        raise PeerFault("receipt_invalid", "the answer holds no receipt")
    message = open_envelope(from_b64u(found), "receipt", {COORDINATOR: key})
    receipt = Receipt.check(message.body)
    if receipt.accepted != item.digest:
        raise PeerFault("receipt_invalid", "the receipt is for another message")
    inclusion = answer.get("inclusion")
    if isinstance(inclusion, dict):
        vkey = decode_vkey(
            session.identity.coordinator_log_vkey if active is None else active.roster["coordinator"]["log_vkey"]
        )
        proved = verify_inclusion_bundle(inclusion, vkey, vkey.name)
        if leaf_hash(proved.leaf).hex() != receipt.leaf_hash or proved.index != receipt.log_index:
            raise PeerFault("receipt_invalid", "the proof that came with the receipt is of another log entry")
    return receipt, message.envelope


def _read_sealed(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PeerFault("upload_damaged", f"{path.name} of the sealed update is gone: {error.strerror}") from error
