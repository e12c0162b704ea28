"""Lines for syslog receivers: RFC 5424 with the DICOM audit message (IHE ATNA), and CEF for alarm systems (B6)."""

import base64
from xml.etree.ElementTree import Element, SubElement, tostring

from shared.audit.entry_view import EVENTS, OUTCOMES, EntryView
from shared.clock import parse_timestamp

_PRIORITY = 10 * 8 + 5  # security messages, notice: what ATNA asks for
_SEVERITY = {"success": 3, "minor": 5, "serious": 7, "major": 10}


def dicom_syslog(view: EntryView) -> str:
    """Return an entry as one RFC 5424 message whose body is DICOM PS3.15 A.5 XML."""
    entry, actor = view.entry, view.entry["actor"]
    message = Element("AuditMessage")
    event = SubElement(
        message,
        "EventIdentification",
        EventActionCode=entry["action"],
        EventDateTime=entry["ts"],
        EventOutcomeIndicator=OUTCOMES[entry["outcome"]],
    )
    _code(event, "EventID", view.event, "DCM", EVENTS[view.event])
    _code(event, "EventTypeCode", entry["type"], "Mitral", view.meaning)
    SubElement(message, "ActiveParticipant", UserID=f"{actor['kind']}:{actor['id']}", UserIsRequestor="true")
    source = SubElement(message, "AuditSourceIdentification", AuditSourceID=entry["log"])
    _code(source, "AuditSourceTypeCode", "4", "DCM", "Application Server")
    what = SubElement(
        message,
        "ParticipantObjectIdentification",
        ParticipantObjectID=f"{entry['log']}#{view.index}",
        ParticipantObjectTypeCode="4",
    )
    _code(what, "ParticipantObjectIDTypeCode", "log-entry", "Mitral", "Entry of the log")
    details = dict(view.details)
    if entry["study"] is not None:
        details["study"] = entry["study"]
    for name, value in details.items():
        SubElement(what, "ParticipantObjectDetail", type=name, value=base64.b64encode(value.encode()).decode())
    header = f"<{_PRIORITY}>1 {entry['ts']} {entry['log']} mitral - DICOM+RFC3881 -"
    return f"{header} \ufeff{tostring(message, encoding='unicode')}"


def _code(parent: Element, tag: str, code: str, system: str, text: str) -> None:
    SubElement(parent, tag, {"csd-code": code, "codeSystemName": system, "originalText": text})


def common_event_format(view: EntryView) -> str:
    """Return an entry as one line of ArcSight's Common Event Format."""
    entry = view.entry
    fields = {
        "rt": str(int(parse_timestamp(entry["ts"]).timestamp() * 1000)),
        "externalId": entry["id"],
        "suser": f"{entry['actor']['kind']}:{entry['actor']['id']}",
        "act": entry["action"],
        "outcome": entry["outcome"],
        "cs1Label": "leafHash",
        "cs1": view.leaf_hash,
        "cn1Label": "leafIndex",
        "cn1": str(view.index),
    }
    if entry["study"] is not None:
        fields |= {"cs2Label": "study", "cs2": entry["study"]}
    if entry["subject"] is not None:
        fields |= {"cs3Label": "subject", "cs3": f"{entry['subject']['kind']}:{entry['subject']['id']}"}
    head = ("CEF:0", "Mitral", "Mitral", "1", entry["type"], view.meaning, str(_SEVERITY[entry["outcome"]]))
    extension = " ".join(f"{name}={_escaped(value, '=')}" for name, value in fields.items())
    return "|".join(_escaped(part, "|") for part in head) + "|" + extension


def _escaped(text: str, mark: str) -> str:
    plain = text.replace("\\", "\\\\").replace(mark, "\\" + mark)
    return plain.replace("\r", "").replace("\n", "\\n")
