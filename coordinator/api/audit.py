"""The export an auditor verifies offline, and the erasure of what entries committed to."""

import re

from starlette.responses import Response

from coordinator.api.call import Call, JsonAnswer
from coordinator.disclosures import erase
from coordinator.export import Wish, build_export
from shared.audit.derived import FORMS
from shared.audit.selection import Selection
from shared.clock import parse_timestamp, timestamp
from shared.errors import InputError
from shared.ids import check_id

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def export(call: Call) -> Response:
    """Return the log, or the part that `study`, `from` and `to` name, as a zip file.

    `disclosures=none` leaves the disclosed fields out; `final=true` ends at the newest head that a quorum cosigned;
    `derived=fhir-r4,csv` adds the entries in other forms.
    """
    coordinator = call.coordinator
    study = call.query("study") or None
    start, end = _time(call, "from", "T00:00:00.000Z"), _time(call, "to", "T23:59:59.999Z")
    selection = Selection(study and check_id(study, "study"), start, end) if study or start or end else None
    derived = tuple(filter(None, call.query("derived").split(",")))
    unknown = sorted(set(derived) - set(FORMS))
    if unknown or len(set(derived)) < len(derived):
        raise InputError("derived_unknown", f"derived: some of {', '.join(FORMS)}, each once")
    wish = Wish(selection, call.query("disclosures") != "none", call.query("final") == "true", derived)
    archive = build_export(coordinator.database, coordinator.log, call.operator, wish, coordinator.clock.now())
    name = f"{coordinator.federation}-audit.zip"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(archive, media_type="application/zip", headers=headers)


def erase_disclosure(call: Call) -> Response:
    """Erase what opens a committed field; the entry that committed to it stays, and proves as before."""
    given = call.json(entry=int, field=str, basis=str)
    entry, field, basis = (call.required(given, name) for name in ("entry", "field", "basis"))
    coordinator = call.coordinator
    with coordinator.database.transaction("erase a disclosure") as tx:
        answer = erase(tx, coordinator.log, call.operator, entry, field, basis, coordinator.clock.now())
    coordinator.database.fold()
    return JsonAnswer(answer)


def _time(call: Call, name: str, rest_of_day: str) -> str | None:
    text = call.query(name)
    if not text:
        return None
    return timestamp(parse_timestamp(text + rest_of_day if _DAY.fullmatch(text) else text))
