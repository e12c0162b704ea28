"""What is left of a context when it is over: a tombstone (PROTOCOLS A10 W6). Pure database work, also of `mitral-site`.

The running agent erases the files of contexts that are over here before it answers anything else.
"""

from site_agent.storage import outbox, pairings, rounds
from site_agent.storage.database import Transaction
from site_agent.storage.rounds import StoredRound


def wipe_round(tx: Transaction, stored: StoredRound, because: str) -> None:
    """Leave only the tombstone of a context: nothing more is sent for it, its files are erased after the commit.

    Pairing secrets that only this context still needed go with it (PROTOCOLS A6).
    """
    rounds.set_wiped(tx, stored.ctx_hash, because)
    outbox.drop_pending(tx, stored.ctx_hash, ("manifest", "decision", "unmask"))
    pairings.erase_superseded(tx, stored.study, pairings_in_use(tx, stored.study))


def wipe_study(tx: Transaction, study: str, because: str) -> None:
    """Wipe every open context of a study and erase the secrets its hospitals share."""
    for stored in rounds.read_open_rounds(tx):
        if stored.study == study:
            wipe_round(tx, stored, because)
    pairings.erase_study(tx, study)


def pairings_in_use(tx: Transaction, study: str) -> set[str]:
    """Return the pairing hashes that contexts of a study which are not wiped refer to."""
    open_rounds = [stored for stored in rounds.read_open_rounds(tx) if stored.study == study]
    return {participant.pairing for stored in open_rounds for participant in stored.ctx.P}
