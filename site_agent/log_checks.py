"""What this site asks of the log: its receipts in it, no certificate it does not know, a sane clock, new final heads.

Everything is looked up in this site's own copy (PROTOCOLS B3, C4).
"""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.audit.merkle import inclusion_proof
from shared.canonical import JsonObject, b64u
from shared.clock import parse_timestamp, timestamp
from shared.errors import PeerFault, Refusal
from site_agent.log_evidence import conflict, keep_evidence
from site_agent.rounds.session import Session
from site_agent.storage import log, notices, outbox
from site_agent.storage.certificates import is_own
from site_agent.storage.database import Transaction
from site_agent.storage.log import PendingReceipt, SeenCertificate

MERGE_SECONDS = 60  # so long an acknowledged message may take to stand under a head
FRESH = timedelta(hours=24)  # so long tasks are taken without a new final head
AHEAD = timedelta(minutes=10)  # so far an entry may be ahead of this site's clock
FINAL_SIZE, FINAL_AT, TASK_SINCE, BEHIND = "log_final_size", "log_final_at", "log_task_since", "log_behind"
_CONTACT = timedelta(seconds=60)  # the coordinator counts as heard for so long after a poll
_STEP_SECONDS = 30  # what one look counts at most: nobody waited while this process slept
_CERTIFICATES = {"cert.issued", "cert.renewed"}


def check_log(tx: Transaction, now: datetime) -> None:
    """Return if a context may be bound as far as the log goes; the first one after a final head starts the 24 hours.

    Raises:
        Refusal: ``log_conflict``, ``log_rolled_back``, ``log_not_final``.
    """
    found, facts = log.read_conflict(tx), notices.read_facts(tx)
    if found is not None:
        raise Refusal("log_conflict", f"{found.detail}; the evidence is kept in {found.file}")
    if facts.get(BEHIND):
        raise Refusal("log_rolled_back", f"the coordinator went back: {facts[BEHIND]}")
    since = facts.get(TASK_SINCE)
    if not since:
        notices.set_fact(tx, TASK_SINCE, timestamp(now))
    elif now - parse_timestamp(since) > FRESH:
        raise Refusal("log_not_final", f"tasks come since {since} and no new head of the log became final")


def note_final(tx: Transaction, size: int, now: datetime) -> None:
    """Note a new final head: tasks are taken for another 24 hours."""
    notices.set_fact(tx, FINAL_SIZE, str(size))
    notices.set_fact(tx, FINAL_AT, timestamp(now))
    notices.set_fact(tx, TASK_SINCE, "")


def look_through(tx: Transaction, site: str, leaves: Sequence[bytes], first: int, now: datetime) -> None:
    """Look through entries that were just taken over: certificates in this site's name, times ahead of its clock."""
    at = timestamp(now)
    for index, leaf in enumerate(leaves, first):
        try:
            entry = json.loads(leaf)
            type_, data, ts = entry["type"], entry["data"], parse_timestamp(entry["ts"])
            if type_ in _CERTIFICATES and data["site"] == site:
                seen = SeenCertificate(str(data["sha256"]), str(data["serial"]), index, at, "new")
                log.add_certificate(tx, seen)
        except (ValueError, TypeError, LookupError, PeerFault):
            notices.add_notice(tx, "entry_malformed", "log", f"entry {index} of the log is malformed", at)
            continue
        if ts - now > AHEAD:
            detail = f"entry {index} of the log says {entry['ts']}, it is {at} here"
            notices.add_notice(tx, "log_clock_ahead", "log", detail, at)


def watch(session: Session, now: datetime) -> None:
    """Look for the entries of receipts and for certificates nobody here asked for; called after every set of commands.

    Raises:
        PeerFault: ``log_conflict`` when the coordinator acknowledged another entry than the one in the log.
    """
    with session.database.reading("look into the log") as tx:
        receipts, certificates = log.read_receipts(tx), log.read_certificates(tx, "new")
        if log.read_conflict(tx) is not None:
            return
    if receipts:
        _watch_receipts(session, receipts, now)
    if certificates:
        _watch_certificates(session, certificates, now)
    session.watched.at = now


def _watch_receipts(session: Session, receipts: list[PendingReceipt], now: datetime) -> None:
    with session.database.reading("look for receipts") as tx:
        heard = notices.read_facts(tx).get("last_contact_at")
        hashes = {one.seq: log.read_leaf_hash(tx, one.log_index) for one in receipts}
    for one in receipts:
        found = hashes[one.seq]
        if found is not None and found != one.leaf_hash:
            raise conflict(session, *_contradiction(session, one), now)
    waited = 0
    if heard and session.watched.at is not None and now - parse_timestamp(heard) < _CONTACT:
        waited = min(_STEP_SECONDS, max(0, int((now - session.watched.at).total_seconds())))
    done = [one for one in receipts if hashes[one.seq] is not None]
    open_ = [one for one in receipts if hashes[one.seq] is None and not one.alarmed]
    overdue = [one for one in open_ if one.waited + waited > MERGE_SECONDS]
    if not done and not overdue and not waited:
        return
    with session.database.transaction("receipts in the log") as tx:
        for one in done:
            log.remove_receipt(tx, one.seq)
        log.wait_for_receipts(tx, waited)
        for one in overdue:
            log.set_alarmed(tx, one.seq)
    for one in overdue:
        detail = f"message {one.seq} was acknowledged as entry {one.log_index} and does not turn up in the log"
        with session.database.reading("read a receipt") as tx:
            evidence = {"receipt": _text(outbox.read_receipt(tx, one.seq)), "cosigned": log.read_head(tx).note}
        keep_evidence(session, "receipt_not_logged", detail, evidence, now)
        session.notice("receipt_not_logged", f"message {one.seq}", detail)


def _contradiction(session: Session, one: PendingReceipt) -> tuple[str, JsonObject]:
    with session.database.reading("read a contradiction") as tx:
        head, receipt, entry = log.read_head(tx), outbox.read_receipt(tx, one.seq), log.read_entry(tx, one.log_index)
        proof = inclusion_proof(one.log_index, head.size, log.node_reader(tx))
    evidence = {
        "receipt": _text(receipt),
        "cosigned": head.note,
        "index": one.log_index,
        "entry": b64u(entry or b""),
        "proof": [part.hex() for part in proof],
    }
    return f"message {one.seq} was acknowledged as entry {one.log_index}, where the log has another one", evidence


def _watch_certificates(session: Session, certificates: list[SeenCertificate], now: datetime) -> None:
    with session.database.reading("read own certificates") as tx:
        own = {one.sha256 for one in certificates if is_own(tx, one.sha256)}
    for one in certificates:
        if one.sha256 in own:
            with session.database.transaction("own certificate") as tx:
                log.set_certificate(tx, one.sha256, "own")
        elif (now - parse_timestamp(one.seen_at)).total_seconds() > MERGE_SECONDS:
            # A renewal is logged a moment before its certificate arrives here; this one did not arrive.
            detail = f"entry {one.log_index}: certificate {one.serial} was issued in this site's name, not to this site"
            with session.database.reading("read the entry") as tx:
                evidence = {"cosigned": log.read_head(tx).note, "entry": b64u(log.read_entry(tx, one.log_index) or b"")}
            keep_evidence(session, "certificate_rogue", detail, {**evidence, "index": one.log_index}, now)
            with session.database.transaction("rogue certificate") as tx:
                log.set_certificate(tx, one.sha256, "rogue")
            session.notice("certificate_rogue", one.serial, detail)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else b64u(raw)
