"""The OpenAPI documents of the two listeners, made from the table of routes and from what stands here about each.

A route that is not named here takes no query, an object as its body if it has one, and answers with an object.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from coordinator.api.call import Call, JsonAnswer
from shared.canonical import JsonObject
from shared.protocol.enrolment import EnrolmentRequest
from shared.protocol.problems import MEDIA_TYPE
from shared.protocol.study import Plan
from shared.protocol.wire import WireObject

if TYPE_CHECKING:
    from coordinator.api.routes import Route

JSON, TEXT, BYTES = "application/json", "text/plain", "application/octet-stream"
_TEXT: JsonObject = {"type": "string"}
_SMALL_NUMBER: JsonObject = {"type": "integer", "minimum": 0, "maximum": 2**31 - 1}
_ID: JsonObject = {"type": "string", "pattern": "^[a-z0-9][a-z0-9._-]{0,63}$"}
_DIGEST: JsonObject = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_PATHS: Mapping[str, JsonObject] = {
    "version": _SMALL_NUMBER,
    "chunk": _SMALL_NUMBER,
    "sha256": _DIGEST,
    "ctx_hash": _DIGEST,
    "digest": _DIGEST,
    "verb": {"type": "string", "enum": ["start", "pause", "stop"]},
}
_WAIT: Mapping[str, JsonObject] = {"wait": {"type": "number", "minimum": 0, "maximum": 3600}, "cursor": _TEXT}
QUERIES: Mapping[str, Mapping[str, JsonObject]] = MappingProxyType(
    {
        "GET /v1/agent/poll": {
            **_WAIT,
            "instance": {"type": "string", "minLength": 1, "maxLength": 64},
            "previous": _TEXT,
        },
        "GET /v1/studies/{study}/watch": _WAIT,
        "GET /v1/studies/{study}/outcomes": {"after": _SMALL_NUMBER},
        "GET /v1/oidc/callback": {"state": _TEXT, "code": _TEXT, "error": _TEXT},
    }
)


def _fields(required: str, **optional: JsonObject) -> JsonObject:
    properties = {**dict.fromkeys(required.split(), _TEXT), **optional}
    return {
        "type": "object",
        "properties": properties,
        "required": required.split(),
        "additionalProperties": False,
    }


_DAYS: JsonObject = {"type": "integer", "minimum": 1, "maximum": 366}
_NOTHING = _fields("")
_ENVELOPE: JsonObject = {
    "type": "object",
    "properties": {
        "payloadType": _TEXT,
        "payload": _TEXT,
        "signatures": {
            "type": "array",
            "items": {"type": "object", "properties": {"keyid": _TEXT, "sig": _TEXT}, "required": ["keyid", "sig"]},
            "minItems": 1,
            "maxItems": 1,
        },
    },
    "required": ["payloadType", "payload", "signatures"],
    "additionalProperties": False,
}
BODIES: Mapping[str, JsonObject] = MappingProxyType(
    {
        "POST /v1/enrol": {"$ref": "#/components/schemas/EnrolmentRequest"},
        "POST /v1/studies": {"$ref": "#/components/schemas/Plan"},
        "POST /v1/account/setup": _fields("link password"),
        "POST /v1/account/confirm": _fields("link code"),
        "POST /v1/account/link": _fields("password code"),
        "POST /v1/login": _fields("operator password code"),
        "POST /v1/logout": {},
        "POST /v1/sites/invitations": _fields("site", name=_TEXT),
        "POST /v1/sites/{site}/approve": _fields("fingerprint"),
        "POST /v1/sites/{site}/reject": {},
        "POST /v1/sites/{site}/revoke": _fields("", reason=_TEXT),
        "POST /v1/sites/{site}/readmit": {},
        "POST /v1/rosters": _fields("", c={"type": "integer"}),
        "POST /v1/operators": _fields("operator role", days=_DAYS),
        "POST /v1/operators/{operator}/link": {},
        "POST /v1/operators/{operator}/role": _fields("role"),
        "POST /v1/operators/{operator}/identity": _fields("", subject=_TEXT),
        "POST /v1/tokens": _fields("", name=_TEXT, days=_DAYS, permissions={"type": "array", "items": _TEXT}),
        "POST /v1/studies/{study}/{verb}": {},
        "POST /v1/audit/erasures": _fields("field basis", entry={"type": "integer"}),
    }
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a route answers when nothing is wrong: a status, a media type, and of an object the keys it surely has."""

    status: int = 200
    media_type: str | None = JSON
    keys: str = ""


_ACCESS_FILE = Answer(201, keys="v kind url root operator role token")
_LINK_FILE = Answer(201, keys="v kind url root operator link expires_at")
_RECEIPT = Answer(keys="receipt inclusion")
_STUDY = Answer(keys="study state plan sites approved_by rounds")
ANSWERS: Mapping[str, tuple[Answer, ...]] = MappingProxyType(
    {
        "POST /v1/enrol": (Answer(202),),
        "GET /v1/enrol/{request_id}": (Answer(), Answer(202)),
        "GET /v1/health/live": (Answer(keys="live"),),
        "GET /v1/health/ready": (Answer(keys="ready federation"),),
        "GET /v1/agent/poll": (Answer(keys="v action sleep_seconds reason cursor time commands"),),
        "GET /v1/blobs/{sha256}": (Answer(200, BYTES), Answer(206, BYTES)),
        "GET /v1/log/checkpoint": (Answer(200, TEXT),),
        "GET /v1/audit/checkpoint": (Answer(200, TEXT),),
        "GET /v1/audit/export": (Answer(200, "application/zip"),),
        "GET /v1/studies/{study}/outcomes": (Answer(keys="outcomes"),),
        "GET /v1/rounds/{ctx_hash}/uploads/{site}": (Answer(keys="chunks"),),
        "GET /v1/whoami": (Answer(keys="operator roles permissions expires_at federation"),),
        "GET /v1/sites": (Answer(keys="sites"),),
        "GET /v1/rosters": (Answer(keys="rosters"),),
        "GET /v1/operators": (Answer(keys="operators"),),
        "GET /v1/tokens": (Answer(keys="tokens"),),
        "GET /v1/studies": (Answer(keys="studies"),),
        "GET /v1/studies/{study}": (_STUDY,),
        "GET /v1/studies/{study}/watch": (Answer(keys="cursor study sites"),),
        "POST /v1/studies/{study}/{verb}": (_STUDY,),
        "POST /v1/studies": (Answer(201),),
        "POST /v1/sites/invitations": (Answer(201),),
        "POST /v1/rosters": (Answer(201, keys="version roster_hash fingerprint state"),),
        "POST /v1/account/setup": (Answer(keys="operator totp_secret totp_uri"),),
        "POST /v1/account/confirm": (Answer(keys="operator recovery_codes"),),
        "POST /v1/account/link": (_LINK_FILE,),
        "POST /v1/login": (_ACCESS_FILE,),
        "POST /v1/operators": (_ACCESS_FILE,),
        "POST /v1/operators/{operator}/link": (_LINK_FILE,),
        "POST /v1/tokens": (_ACCESS_FILE,),
        "GET /v1/oidc/login": (Answer(303, None),),
        "GET /v1/oidc/callback": (_ACCESS_FILE,),
        **{
            f"PUT /v1/rounds/{{ctx_hash}}/{step}/{{site}}": (_RECEIPT,)
            for step in ("manifest", "refusal", "decision", "unmask", "attestation")
        },
    }
)


def show(call: Call) -> Response:
    """Return this listener's OpenAPI document."""
    return JsonAnswer(call.request.app.state.document)


def build_document(title: str, routes: Iterable["Route"]) -> JsonObject:
    """Return the OpenAPI 3.1 document of one listener's routes."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    schemes = {
        "operator": {"type": "http", "scheme": "bearer"},
        "site": {"type": "mutualTLS"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM, **_wire_types(EnrolmentRequest, Plan)},
            "securitySchemes": schemes,
        },
    }


def _wire_types(*types: type[WireObject]) -> JsonObject:
    found: JsonObject = {}
    for one in types:
        schema = one.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[one.__name__] = schema
    return found


def _operation(route: "Route") -> JsonObject:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _PATHS.get(name, _ID)}
        for name in re.findall(r"{(\w+)}", route.path)
    ]
    for name, schema in QUERIES.get(route.name, {}).items():
        parameters.append({"name": name, "in": "query", "required": name == "instance", "schema": schema})
    operation: JsonObject = {
        "operationId": f"{route.method.lower()}{re.sub('[^a-z0-9]+', '_', route.path)}",
        "summary": (route.handler.__doc__ or "").partition("\n")[0],
        "parameters": parameters,
        "responses": _responses(route),
    }
    if route.access != "anybody":
        operation["security"] = [{"site" if route.access == "site" else "operator": []}]
        operation["x-permission"] = route.access
    body = _body(route)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _body(route: "Route") -> JsonObject | None:
    if route.limit == 0:
        return None
    if route.limit < 0:
        return {"required": True, "content": {BYTES: {"schema": {"type": "string", "format": "binary"}}}}
    schema = BODIES.get(route.name, _ENVELOPE if route.access == "site" else {"type": "object"})
    return {"required": bool(schema.get("required") or "$ref" in schema), "content": {JSON: {"schema": schema}}}


def _responses(route: "Route") -> JsonObject:
    problem = {
        "description": "A problem",
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    found: JsonObject = {str(status): problem for status in _problem_statuses(route)}
    for answer in ANSWERS.get(route.name, (Answer(),)):
        content = {} if answer.media_type is None else {answer.media_type: {"schema": _schema(answer)}}
        found[str(answer.status)] = {"description": "Done", "content": content}
    return found


def _problem_statuses(route: "Route") -> set[int]:
    # 400 is any malformed header, path, query or body; 429 a rate limit; 503 and 507 a resource that ran out.
    statuses = {400, 429, 503, 507}
    if route.access != "anybody" or route.pace == "login":
        statuses |= {401, 403}
    if "{" in route.path or route.method != "GET":
        statuses |= {403, 404, 409}
    if route.limit or route.method in {"GET", "DELETE"}:  # a body where none belongs is too large
        statuses.add(413)
    if route.limit < 0:
        statuses.add(411)
    if "/blobs/" in route.path:
        statuses.add(416)
    return statuses | ({404} if "/oidc/" in route.path else set()) | ({409} if route.access != "anybody" else set())


def _schema(answer: Answer) -> JsonObject:
    if answer.media_type != JSON:
        return {"type": "string"}
    return {"type": "object", "required": answer.keys.split()}


_PROBLEM: JsonObject = {
    "type": "object",
    "properties": {
        "type": {"type": "string", "pattern": "^urn:mitral:problem:[a-z0-9_]+$"},
        "code": {"type": "string", "pattern": "^[a-z0-9_]+$"},
        "family": {"enum": ["input", "peer", "refusal", "unavailable", "internal"]},
        "title": _TEXT,
        "detail": _TEXT,
        "remedy": _TEXT,
        "status": {"type": "integer"},
        "request_id": _TEXT,
    },
    "required": ["type", "code", "family", "title", "detail", "remedy", "status", "request_id"],
    "additionalProperties": False,
}
