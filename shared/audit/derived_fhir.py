"""FHIR AuditEvent, R4 and R5, one resource per line (PROTOCOLS B6; IHE BALP has the same shape)."""

from shared.audit.entry_view import EVENTS, OUTCOMES, EntryView
from shared.canonical import JsonObject, canonical_bytes

DCM = "http://dicom.nema.org/resources/ontology/DCM"
TYPES = "urn:mitral:entry-type"
SITES = "urn:mitral:actor"
SOURCE_TYPE = "http://terminology.hl7.org/CodeSystem/security-source-type"
_SEVERITY = {"success": "informational", "minor": "warning", "serious": "error", "major": "critical"}
_ISSUE = {"success": "success", "minor": "warning", "serious": "error", "major": "fatal"}


def r4(view: EntryView) -> str:
    """Return an entry as a FHIR R4 AuditEvent."""
    entry = view.entry
    resource = _resource(view)
    resource["type"] = _event(view)
    resource["subtype"] = [_type(view)]
    resource["outcome"] = OUTCOMES[entry["outcome"]]
    resource["source"]["type"] = [_server()]
    return canonical_bytes(resource).decode()


def r5(view: EntryView) -> str:
    """Return an entry as a FHIR R5 AuditEvent."""
    entry = view.entry
    resource = _resource(view)
    resource["category"] = [{"coding": [_event(view)]}]
    resource["code"] = {"coding": [_type(view)]}
    resource["severity"] = _SEVERITY[entry["outcome"]]
    issue = {"system": "http://hl7.org/fhir/issue-severity", "code": _ISSUE[entry["outcome"]]}
    resource["outcome"] = {"code": issue}
    resource["source"]["type"] = [{"coding": [_server()]}]
    for entity in resource["entity"]:
        for detail in entity.get("detail", []):
            detail["type"] = {"text": detail["type"]}
    return canonical_bytes(resource).decode()


def _resource(view: EntryView) -> JsonObject:
    entry, actor = view.entry, view.entry["actor"]
    entities = [
        {
            "what": {"identifier": {"system": "urn:mitral:log", "value": f"{entry['log']}#{view.index}"}},
            "detail": [{"type": name, "valueString": value} for name, value in view.details.items()],
        }
    ]
    if entry["subject"] is not None:
        system = f"urn:mitral:{entry['subject']['kind']}"
        entities.append({"what": {"identifier": {"system": system, "value": entry["subject"]["id"]}}})
    if entry["study"] is not None:
        entities.append({"what": {"identifier": {"system": "urn:mitral:study", "value": entry["study"]}}})
    return {
        "resourceType": "AuditEvent",
        "id": entry["id"],
        "action": entry["action"],
        "recorded": entry["ts"],
        "agent": [
            {
                "who": {"identifier": {"system": f"{SITES}:{actor['kind']}", "value": actor["id"]}},
                "requestor": True,
                **({"policy": [f"urn:mitral:{entry['authz']['rule']}"]} if entry["authz"] else {}),
            }
        ],
        "source": {"observer": {"identifier": {"system": "urn:mitral:log", "value": entry["log"]}}},
        "entity": entities,
    }


def _event(view: EntryView) -> JsonObject:
    return {"system": DCM, "code": view.event, "display": EVENTS[view.event]}


def _type(view: EntryView) -> JsonObject:
    return {"system": TYPES, "code": view.entry["type"], "display": view.meaning}


def _server() -> JsonObject:
    return {"system": SOURCE_TYPE, "code": "4", "display": "Application Server"}
