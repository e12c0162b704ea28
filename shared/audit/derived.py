"""Derived exports: the entries in the forms that hospitals' record repositories and alarm systems read (PROTOCOLS B6).

Every line carries the entry's number and leaf hash, so that it can be followed back to the log. What counts is the log:
a derived line says less than its entry and proves nothing by itself.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from shared.audit.derived_fhir import r4, r5
from shared.audit.derived_syslog import common_event_format, dicom_syslog
from shared.audit.entry_view import EntryView
from shared.audit.merkle import leaf_hash

_COLUMNS = (
    "index", "time", "type", "meaning", "actor_kind", "actor", "authn", "action", "outcome", "study",
    "subject_kind", "subject", "data", "evidence", "leaf_hash",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Form:
    """A derived form: its file in the archive, one line per entry, and a first line if it has one."""

    file: str
    line: Callable[[EntryView], str]
    head: str | None = None


def table_row(view: EntryView) -> str:
    """Return an entry as a row of comma-separated values (RFC 4180)."""
    entry = view.entry
    subject = entry["subject"] or {"kind": "", "id": ""}
    evidence = " ".join(item["sha256"] for item in entry["evidence"])
    return _row(
        view.index, entry["ts"], entry["type"], view.meaning, entry["actor"]["kind"], entry["actor"]["id"],
        entry["actor"]["authn"], entry["action"], entry["outcome"], entry["study"] or "", subject["kind"],
        subject["id"], json.dumps(entry["data"], sort_keys=True, separators=(",", ":")), evidence, view.leaf_hash,
    )  # fmt: skip


def _row(*cells: object) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


FORMS = {
    "fhir-r4": Form("derived/fhir-r4.ndjson", r4),
    "fhir-r5": Form("derived/fhir-r5.ndjson", r5),
    "dicom": Form("derived/dicom-syslog.txt", dicom_syslog),
    "cef": Form("derived/cef.txt", common_event_format),
    "csv": Form("derived/entries.csv", table_row, _row(*_COLUMNS)),
}


def derived_lines(name: str, entries: Iterable[tuple[int, bytes]]) -> Iterator[bytes]:
    """Yield the lines of a derived form of numbered entries, without line ends."""
    form = FORMS[name]
    if form.head is not None:
        yield form.head.encode()
    for index, leaf in entries:
        yield form.line(EntryView(index, leaf_hash(leaf).hex(), json.loads(leaf))).encode()
