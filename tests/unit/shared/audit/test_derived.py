"""Derived exports: valid in the forms they claim, and each line leads back to its entry (PROTOCOLS B6)."""

import base64
import csv
import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from fhir.resources.auditevent import AuditEvent as R5AuditEvent
from fhir.resources.R4B.auditevent import AuditEvent as R4AuditEvent  # the resource is the one of R4, unchanged

from shared.audit import verify
from shared.audit.derived import FORMS, derived_lines
from shared.audit.entries import Actor, build_entry
from shared.audit.entry_types import ENTRY_TYPES
from shared.audit.merkle import leaf_hash
from tests.support.audit_story import ORIGIN, tell

LEAVES = tell(1).leaves
NUMBERED = list(enumerate(LEAVES))


def every_type() -> list[tuple[int, bytes]]:
    """One entry of every type there is, with hostile words where words may stand."""
    found = []
    for index, (name, kind) in enumerate([*ENTRY_TYPES.items(), ("alert.log.split_view", ENTRY_TYPES["login"])]):
        facts = dict.fromkeys({*kind.facts, "detail"}, "11" * 32) | {"note": 'a|b=c\\d\n<e>&"=1+1'}
        leaf = build_entry(
            log=ORIGIN, entry_id=f"00000000-0000-7000-8000-{index:012x}", ts="2026-11-21T09:00:00.123Z", type_=name,
            actor=Actor("user", "op-1", "token"), data=facts, subject=("site", "site-a"), study="demo",
            outcome=("success", "minor", "serious", "major")[index % 4], evidence=["22" * 32],
            authz={"decision": "permit", "policy": "33" * 32, "rule": "r1"},
        )  # fmt: skip
        found.append((index, leaf))
    return found


ENTRIES = [*NUMBERED, *every_type()]


@pytest.mark.parametrize(("form", "check"), [("fhir-r4", R4AuditEvent), ("fhir-r5", R5AuditEvent)])
def test_every_line_is_a_valid_audit_event(form: str, check: Callable[..., object]) -> None:
    lines = list(derived_lines(form, ENTRIES))
    assert len(lines) == len(ENTRIES)
    for (index, leaf), line in zip(ENTRIES, lines, strict=True):
        event = json.loads(line)
        check(**event)
        entry = json.loads(leaf)
        assert (event["recorded"], event["action"], event["id"]) == (entry["ts"], entry["action"], entry["id"])
        details = [one["valueString"] for one in event["entity"][0]["detail"]]
        assert details[:2] == [str(index), leaf_hash(leaf).hex()]
        assert sum(agent["requestor"] for agent in event["agent"]) == 1


def test_every_syslog_line_carries_a_dicom_message() -> None:
    header = re.compile(r"<85>1 \S+ \S+ mitral - DICOM\+RFC3881 - \ufeff(<AuditMessage>.*</AuditMessage>)")
    for (index, leaf), line in zip(ENTRIES, derived_lines("dicom", ENTRIES), strict=True):
        match = header.fullmatch(line.decode())
        assert match
        message = ET.fromstring(match[1])
        entry = json.loads(leaf)
        event = message.find("EventIdentification")
        assert event is not None
        assert event.get("EventDateTime") == entry["ts"]
        assert event.get("EventOutcomeIndicator") in {"0", "4", "8", "12"}
        assert [child.tag for child in event] == ["EventID", "EventTypeCode"]
        details = {
            one.get("type"): base64.b64decode(one.get("value", "")) for one in message.iter("ParticipantObjectDetail")
        }
        assert details["leafIndex"] == str(index).encode()
        assert details["leafHash"] == leaf_hash(leaf).hex().encode()


def test_cef_has_seven_separators_and_no_line_breaks() -> None:
    for (_, leaf), line in zip(ENTRIES, derived_lines("cef", ENTRIES), strict=True):
        text = line.decode()
        assert "\n" not in text
        assert len(re.findall(r"(?<!\\)\|", text)) == 7
        assert f"cs1={leaf_hash(leaf).hex()}" in text


def test_the_table_reads_back_what_was_written() -> None:
    text = b"\r\n".join(derived_lines("csv", ENTRIES)).decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == len(ENTRIES)
    for (index, leaf), row in zip(ENTRIES, rows, strict=True):
        assert (int(row["index"]), json.loads(row["data"])) == (index, json.loads(leaf)["data"])
        assert not any(str(cell).startswith(("=", "+", "-", "@")) for cell in row.values())


def test_derived_files_stand_in_the_manifest(tmp_path: Path) -> None:
    story = tell(1)
    path = story.export(tmp_path / "export.zip", derived=tuple(FORMS))
    assert verify.verify(path).ok
    with zipfile.ZipFile(path) as archive:
        names = {name for name in archive.namelist() if name.startswith("derived/")}
        assert names == {form.file for form in FORMS.values()}
        members = {name: archive.read(name) for name in archive.namelist()}
    for name in names:
        with zipfile.ZipFile(path, "w") as archive:
            for one, data in members.items():
                archive.writestr(one, data.replace(b"round.open", b"round.lost") if one == name else data)
        assert not verify.verify(path).ok
