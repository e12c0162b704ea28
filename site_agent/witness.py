"""This site as a witness of the log: it keeps a copy of every entry and cosigns heads that continue it (PROTOCOLS B3).

Copy, head and cosignature are committed together before anything is answered, so that after any crash this site answers
the very same bytes, and never signs a smaller or another tree. Peers' heads are compared with the same copy: a head
that is final for one site is a prefix of what every other honest site holds.
"""

from datetime import datetime

from shared.audit.log_checkpoint import (
    COSIGNATURE,
    LogCheckpoint,
    LogVkey,
    add_signature_lines,
    cosign,
    decode_vkey,
    verify_checkpoint,
    verify_cosignature,
    witness_name,
)
from shared.audit.merkle import Frontier, consistency_proof, leaf_hash, root_at, verify_consistency
from shared.audit.witness import AddCheckpoint, final_size, parse_add_checkpoint
from shared.canonical import JsonObject, b64u
from shared.clock import timestamp
from shared.errors import MitralError, PeerFault
from shared.protocol.work import FinalCommand, WitnessCommand
from shared.secagg.roster import log_keys, next_quorum
from site_agent import log_checks
from site_agent.identity import SiteIdentity
from site_agent.log_evidence import conflict
from site_agent.rounds.session import Session
from site_agent.storage import log, notices, rosters
from site_agent.storage.database import Transaction
from site_agent.storage.log import Head, PeerHead

MOST_BYTES = 256 * 2**20  # of entries taken over at once; a coordinator sends a few thousand entries per head
_EVIDENCE_ENTRIES = 2000


class _OtherRootError(Exception):
    """The entries that were handed out do not give the root that was signed."""


def answer(session: Session, command: WitnessCommand, now: datetime) -> None:
    """Cosign a head that continues this site's copy of the log, and send the cosigned note.

    Raises:
        PeerFault: ``log_conflict`` when the log shows another history; ``log_entries_invalid``, ``checkpoint_unsigned``
            and the like.
        InputError: ``log_rolled_back`` when the coordinator says that its database is older than this site's head.
        Retry: the network failed.
    """
    asked = parse_add_checkpoint(command.add_checkpoint)
    with session.database.reading("read log head") as tx:
        head, vkey = log.read_head(tx), log_vkey(tx, session.identity)
        if log.read_conflict(tx) is not None:
            return  # nothing is signed any more; a person was told
        shown = verify_checkpoint(asked.note, vkey, vkey.name)
        evidence = compare(tx, head, shown, asked.note)
    if evidence is not None:
        raise conflict(session, f"two heads of {shown.size} entries differ", evidence, now)
    if shown.size > head.size:
        if asked.old_size == head.size:
            _check_proof(session, head, shown, asked, now)
        head = _take_over(session, head, shown, asked.note, now)
    if head.size:
        _send(session, head, now)


def answer_final(session: Session, command: FinalCommand, now: datetime) -> None:
    """Fetch what the other witnesses cosigned, compare it with this site's copy, and see how far the log is final.

    Raises:
        PeerFault: ``log_conflict`` when a peer was shown another history.
        Retry: the network failed.
    """
    with session.database.reading("read finality") as tx:
        known = final_of(notices.read_facts(tx))
        active, is_over = rosters.read_active(tx), log.read_conflict(tx) is not None
    if active is None or command.size <= known or is_over:
        return
    heads = {one.site: one.note for one in session.client.read_cosigned_heads() if one.site != session.site}
    for site, key in log_keys(active.roster).items():
        if site in heads:
            _take_peer(
                session, site, LogVkey(witness_name(_origin(active.roster), site), COSIGNATURE, key), heads[site], now
            )
    with session.database.transaction("note finality") as tx:
        listed = log_keys(active.roster)
        cosigned = [peer.size for site, peer in log.read_peers(tx).items() if site in listed and site != session.site]
        final = final_size([log.read_head(tx).size, *cosigned], next_quorum(active.roster))
        if final > known:
            log_checks.note_final(tx, final, now)


def compare(tx: Transaction, head: Head, shown: LogCheckpoint, note: str) -> JsonObject | None:
    """Return what shows that a head contradicts this site's copy; None when it does not, or is larger than the copy.

    The evidence stands by itself: both heads carry the log's signature, and the proof leads from the root that this
    site has at the shown size to the head it cosigned.
    """
    if shown.size > head.size:
        return None
    node = log.node_reader(tx)
    root = root_at(shown.size, node)
    if root == shown.root:
        return None
    proof = [part.hex() for part in consistency_proof(shown.size, head.size, node)]
    return {"cosigned": head.note, "shown": note, "root_here": root.hex(), "size": shown.size, "proof": proof}


def log_vkey(tx: Transaction, identity: SiteIdentity) -> LogVkey:
    """Return the log's verifier key: the active roster's, or before there is one the enrolment's.

    Raises:
        PeerFault: ``vkey_malformed``.
    """
    active = rosters.read_active(tx)
    return decode_vkey(identity.coordinator_log_vkey if active is None else active.roster["coordinator"]["log_vkey"])


def final_of(facts: dict[str, str]) -> int:
    """Return how far this site has seen the log final."""
    return int(facts.get(log_checks.FINAL_SIZE) or 0)


def _check_proof(session: Session, head: Head, shown: LogCheckpoint, asked: AddCheckpoint, now: datetime) -> None:
    try:
        verify_consistency(head.size, head.root, shown.size, shown.root, asked.proof)
    except PeerFault as error:
        evidence = {"cosigned": head.note, "shown": asked.note, "proof_sent": [part.hex() for part in asked.proof]}
        raise conflict(session, error.detail, evidence, now) from error


def _take_over(session: Session, head: Head, shown: LogCheckpoint, note: str, now: datetime) -> Head:
    """Fetch the entries that are missing; commit them with the cosigned head if they give its root."""
    leaves: list[bytes] = []
    size = 0
    while head.size + len(leaves) < shown.size:
        page = session.client.read_log_entries(head.size + len(leaves), shown.size)
        size += sum(map(len, page))
        if size > MOST_BYTES:
            raise PeerFault("log_entries_invalid", f"more than {MOST_BYTES} bytes of entries at once")
        leaves += page
    try:
        with session.database.transaction("cosign log head") as tx:
            if log.read_head(tx) != head or log.read_conflict(tx) is not None:
                return log.read_head(tx)
            frontier = Frontier.load(head.size, log.node_reader(tx))
            for index, leaf in enumerate(leaves, head.size):
                log.add_entry(tx, index, leaf)
                for node in frontier.append(leaf_hash(leaf)):
                    log.add_node(tx, *node)
            if frontier.root() != shown.root:
                raise _OtherRootError
            name = witness_name(shown.origin, session.site)
            line = cosign(shown, name, session.identity.log_key, int(session.clock.now().timestamp()))
            cosigned = Head(shown.size, shown.root, add_signature_lines(note, [line]))
            log.set_head(tx, cosigned, timestamp(now))
            log_checks.look_through(tx, session.site, leaves, head.size, now)
    except _OtherRootError:
        shown_entries = [b64u(leaf) for leaf in leaves[:_EVIDENCE_ENTRIES]]
        evidence = {"cosigned": head.note, "shown": note, "first": head.size, "entries": shown_entries}
        detail = f"entries {head.size} to {shown.size} do not continue this site's copy to the signed root"
        raise conflict(session, detail, evidence, now) from None
    session.log.info("cosigned", size=cosigned.size, entries=len(leaves))
    return cosigned


def _send(session: Session, head: Head, now: datetime) -> None:
    """Send the cosigned head, also when a smaller one was shown: an old question is harmless."""
    path = f"/v1/log/cosignatures/{head.size}/{session.site}"
    try:
        session.client.put(path, head.note.encode(), media_type="text/plain; charset=utf-8")
    except MitralError as error:
        if error.code == "log_rolled_back":
            _note_behind(session, error.detail, now)
        raise
    _note_behind(session, "", now)


def _note_behind(session: Session, behind: str, now: datetime) -> None:
    """Note that the coordinator's database is older than this site's head, or that it is not any more."""
    with session.database.transaction("note log head") as tx:
        if notices.read_facts(tx).get(log_checks.BEHIND, "") != behind:
            notices.set_fact(tx, log_checks.BEHIND, behind)
            if behind:
                notices.add_notice(tx, "log_rolled_back", "log", behind, timestamp(now))


def _take_peer(session: Session, site: str, vkey: LogVkey, note: str, now: datetime) -> None:
    with session.database.reading("compare with a peer") as tx:
        head, own = log.read_head(tx), log_vkey(tx, session.identity)
        try:
            shown = verify_checkpoint(note, own, own.name)
            verify_cosignature(note, vkey)
        except PeerFault as error:
            # It proves nothing about anybody; without enough good ones nothing becomes final.
            session.log.warning("cosignature of a peer does not verify", peer=site, code=error.code)
            return
        evidence = compare(tx, head, shown, note)
    if evidence is not None:
        raise conflict(
            session, f"{site} cosigned another head of {shown.size} entries", {**evidence, "peer": site}, now
        )
    if shown.size <= head.size:
        with session.database.transaction("note a peer's head") as tx:
            log.set_peer(tx, PeerHead(site, shown.size, note))


def _origin(roster: JsonObject) -> str:
    return decode_vkey(roster["coordinator"]["log_vkey"]).name
