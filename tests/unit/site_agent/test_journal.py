"""The site's own log: nothing changed, taken out, put in or cut off goes unnoticed."""

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import IntegrityError

from shared.crypto.identity import SigningKey
from shared.errors import InputError, PeerFault
from site_agent import journal
from site_agent.journal import Head, Keeper
from site_agent.storage import journal as rows
from site_agent.traffic import Flow
from tests.support.hospitals import Hospital, Hospitals

AT = datetime(2026, 11, 21, 9, tzinfo=UTC)
FLOW = Flow("poll", "coordinator.example:9092", 3, 500, 900)


@pytest.fixture
def site(hospitals: Hospitals) -> Hospital:
    site = hospitals["site-a"]
    with site.database.transaction("write") as tx:
        keeper = journal.read_keeper(tx)
        journal.append(tx, keeper, journal.STARTED, {"instance": "1", "unclosed": False}, AT)
        for hour in range(5):
            at = AT + timedelta(hours=hour)
            journal.append_traffic(tx, keeper, [FLOW], at, at + timedelta(hours=1))
    return site


def check(site: Hospital, noted: Head | None = None) -> journal.Verified:
    with site.database.reading("verify") as tx:
        return journal.verify(tx, noted)


def meddle(site: Hospital, sql: str, *values: object) -> None:
    """Change the file as somebody would who owns the machine: without the triggers."""
    with sqlite3.connect(site.folder.database) as connection:
        triggers = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'journal'"
        for (name,) in connection.execute(triggers).fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(sql, values).rowcount > 0
    connection.close()


def test_an_untouched_log_verifies(site: Hospital) -> None:
    found = check(site)
    assert found.entries == 8, "the key's introduction, the approval, the start, five times traffic"
    assert found.fingerprints == [site.session.identity.fingerprint]
    assert found.gaps == []
    assert check(site, found.head) == found
    assert journal.parse_head(str(found.head)) == found.head


def test_the_database_refuses_to_change_or_delete(site: Hospital) -> None:
    for sql in ("UPDATE journal SET at = '2020'", "DELETE FROM journal WHERE number = 3"):
        with pytest.raises(IntegrityError, match="append-only"), site.database.transaction("meddle") as tx:
            tx.run(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "DELETE FROM journal WHERE number = 4",
        "DELETE FROM journal WHERE number = 1",
        "UPDATE journal SET at = '2026-11-21T10:00:00.001Z' WHERE number = 4",
        "UPDATE journal SET event = 'stopped' WHERE number = 4",
        "UPDATE journal SET digest = printf('%064d', 4) WHERE number = 4",
        "UPDATE journal SET number = CASE number WHEN 4 THEN 50 WHEN 5 THEN 4 ELSE number END WHERE number IN (4, 5)",
        "UPDATE journal SET envelope = (SELECT envelope FROM journal WHERE number = 5) WHERE number = 4",
        "UPDATE journal SET envelope = x'7b7d' WHERE number = 4",
    ],
)
def test_any_other_row_is_found(site: Hospital, sql: str) -> None:
    meddle(site, sql)
    with pytest.raises(PeerFault, match=r"^journal_broken:"):
        check(site)


def test_any_flipped_byte_is_found(site: Hospital) -> None:
    with site.database.reading("look") as tx:
        stored = list(rows.read_entries(tx))

    @given(st.integers(0, len(stored) - 1), st.data())
    def flip(position: int, data: st.DataObject) -> None:
        entry = stored[position]
        place = data.draw(st.integers(0, len(entry.envelope) - 1))
        bit = data.draw(st.integers(0, 7))
        changed = bytearray(entry.envelope)
        changed[place] ^= 1 << bit
        before = journal.Head(0, rows.FIRST_PREV) if position == 0 else Head(position, stored[position - 1].digest)
        key = site.session.identity.idk.verify_key
        damaged = rows.StoredEntry(entry.number, entry.at, entry.event, entry.digest, bytes(changed))
        with pytest.raises(PeerFault, match=r"^journal_broken:"):
            journal.check_entry(damaged, before, key)

    flip()


def test_what_was_cut_off_is_found_by_whoever_noted_the_head(site: Hospital) -> None:
    noted = check(site).head
    meddle(site, "DELETE FROM journal WHERE number >= 7")
    assert check(site).entries == 6, "by itself a shorter log is a log"
    with pytest.raises(PeerFault, match=r"^journal_broken: the log ends with entry 6; entry 8 was cut off"):
        check(site, noted)
    with site.database.transaction("write on") as tx:
        for _ in range(3):
            journal.append_traffic(tx, journal.read_keeper(tx), [FLOW], AT, AT)
    with pytest.raises(PeerFault, match=r"^journal_broken: entry 8 is "):
        check(site, noted)


def test_a_log_rewritten_under_another_key_is_found(site: Hospital) -> None:
    meddle(site, "DELETE FROM journal")
    other = Keeper("site-a", "AAAAA-AAAAA-AAAAA-AAAAA", SigningKey.generate())
    with site.database.transaction("rewrite") as tx:
        journal.append_traffic(tx, other, [FLOW], AT, AT)
    with pytest.raises(PeerFault, match="another key than this site's"):
        check(site)


def test_a_new_key_introduces_itself_and_both_are_shown(site: Hospital) -> None:
    meddle(site, "DELETE FROM journal")
    earlier = Keeper("site-a", "AAAAA-AAAAA-AAAAA-AAAAA", SigningKey.generate())
    with site.database.transaction("an invitation that was rejected, then another") as tx:
        journal.append_traffic(tx, earlier, [FLOW], AT, AT)
        journal.append_traffic(tx, journal.read_keeper(tx), [FLOW], AT, AT)
    found = check(site)
    assert found.entries == 4
    assert found.fingerprints == [earlier.fingerprint, site.session.identity.fingerprint]


def test_a_part_is_checked_from_where_it_begins(site: Hospital) -> None:
    with site.database.reading("look") as tx:
        after = rows.read_number_since(tx, "2026-11-21T12:00:00.000Z")
        entries = list(journal.read_checked(tx, after))
        assert rows.read_number_since(tx, "2030") == 8
    assert [entry.head.number for entry in entries] == [6, 7, 8]
    assert entries[0].flows == [FLOW]
    meddle(site, "UPDATE journal SET digest = printf('%064d', 4) WHERE number = 5")
    with site.database.reading("look") as tx, pytest.raises(PeerFault, match=r"^journal_broken: entry 6 does not"):
        list(journal.read_checked(tx, after))


@pytest.mark.parametrize("text", ["", "7", "7:abc", f"-1:{'0' * 64}", f"x:{'0' * 64}"])
def test_a_head_that_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match=r"^journal_head_malformed:"):
        journal.parse_head(text)
