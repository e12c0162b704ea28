"""One poll answer, command by command, in the order that keeps the protocol's promises.

Outcomes come before the next context (the attestation of round r is signed before round r+1 is bound), answers to other
contexts before a new one. Every command is idempotent, so a set that could not be finished is simply answered again.
"""

from dataclasses import dataclass
from datetime import datetime

from shared.clock import timestamp
from shared.errors import MitralError, PeerFault, Refusal, Unavailable
from shared.protocol.work import (
    BundlesCommand,
    CloseCommand,
    Command,
    EndedCommand,
    FinalCommand,
    OpenCommand,
    PairingCommand,
    RosterCommand,
    StudyCommand,
    UnmaskCommand,
    WitnessCommand,
)
from site_agent import log_checks, rosters, studies, witness
from site_agent.rounds import close, confirm_survivors, masked_update, pairing, unmask
from site_agent.rounds.session import Session
from site_agent.storage import notices

_ORDER = ("roster", "study", "pairing", "bundles", "ended", "unmask", "close", "witness", "final", "open")
# Reasons that pass by themselves, or that a person here already knows: they are logged, not shown as notices.
_EXPECTED = {"study_not_approved", "roster_not_active", "round_superseded", "round_wiped", "round_released"}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """Something could not be done now; the same set is to be answered again."""

    retry_after_seconds: float | None


def answer(session: Session, work: list[Command], now: datetime) -> Unfinished | None:
    """Answer every command of a set; return what is left to do again, None when everything is done."""
    close.wipe_expired(session, now)
    close.erase_over(session)
    unfinished: Unfinished | None = None
    behind: set[str | None] = set()  # studies (None: all) of which something is missing that a new context needs
    for command in sorted(work, key=lambda one: _ORDER.index(one.kind)):
        if isinstance(command, OpenCommand) and behind & {None, command.ctx.study}:
            continue  # it would be refused for what is only late; the whole set is answered again
        try:
            answer_one(session, command, now)
        except Unavailable as error:
            session.log.info("put off", command=command.kind, code=error.code, detail=error.detail)
            unfinished = _sooner(unfinished, Unfinished(getattr(error, "retry_after_seconds", None)))
            if isinstance(command, RosterCommand | StudyCommand | BundlesCommand | PairingCommand):
                behind.add(None if isinstance(command, RosterCommand) else command.study)
        except Refusal as error:
            _tell(session, command, error, expected=error.code in _EXPECTED)
        except MitralError as error:
            _tell(session, command, error, expected=False)
    try:
        log_checks.watch(session, now)
    except MitralError as error:
        session.notice(error.code, "log", error.detail)
    return unfinished


def _sooner(one: Unfinished | None, other: Unfinished) -> Unfinished:
    """Return which of two comes first; without a time it is tried again soon."""
    if one is None or other.retry_after_seconds is None:
        return other
    if one.retry_after_seconds is None or one.retry_after_seconds <= other.retry_after_seconds:
        return one
    return other


def answer_one(session: Session, command: Command, now: datetime) -> None:  # noqa: C901 (one case per command)
    """Answer one command.

    Raises:
        MitralError: as the phase says.
    """
    match command:
        case RosterCommand():
            rosters.follow(session.database, session.client, session.identity, command, now)
        case StudyCommand():
            studies.follow(session.database, session.client, session.identity, command)
            close.answer(session, command, now)
        case PairingCommand():
            pairing.answer(session, command, now)
        case BundlesCommand():
            pairing.answer_bundles(session, command, now)
        case EndedCommand():
            close.answer_ended(session, command, now)
        case UnmaskCommand():
            unmask.answer(session, command, now)
        case CloseCommand():
            confirm_survivors.answer(session, command, now)
        case WitnessCommand():
            witness.answer(session, command, now)
        case FinalCommand():
            witness.answer_final(session, command, now)
        case OpenCommand():
            masked_update.answer(session, command, now)


def _tell(session: Session, command: Command, error: MitralError, *, expected: bool) -> None:
    subject = f"{command.kind} {getattr(command, 'study', '')}".strip()
    if expected:
        session.log.info("not done", command=command.kind, code=error.code, detail=error.detail)
        return
    level = session.log.error if isinstance(error, PeerFault) else session.log.warning
    level("not done", command=command.kind, code=error.code, detail=error.detail)
    with session.database.transaction("add notice") as tx:
        notices.add_notice(tx, error.code, subject, error.detail, timestamp(session.clock.now()))
