"""Problem documents (RFC 9457): how an error of one side becomes an error of the other, code included."""

from shared.canonical import JsonObject
from shared.errors import CODES, InputError, MitralError, PeerFault, Refusal, Unavailable

MEDIA_TYPE = "application/problem+json"
_FAMILIES: dict[str, type[MitralError]] = {
    "input": InputError,
    "peer": PeerFault,
    "refusal": Refusal,
    "unavailable": Unavailable,
}


def problem_document(error: MitralError, request_id: str) -> JsonObject:
    """Return the document of `error`; bugs of our own are reported without their details."""
    family = next((name for name, kind in _FAMILIES.items() if isinstance(error, kind)), "internal")
    return {
        "type": f"urn:mitral:problem:{error.code}",
        "code": error.code,
        "family": family,
        "title": error.meaning.title,
        "detail": error.detail if family != "internal" else error.meaning.title,
        "remedy": error.meaning.remedy,
        "status": error.meaning.status,
        "request_id": request_id,
    }


def error_from_problem(document: JsonObject) -> MitralError | None:
    """Rebuild the error a problem document stands for; None when it is not one of ours (a proxy answered, say)."""
    code, family = document.get("code"), document.get("family")
    if not isinstance(code, str) or code not in CODES:
        return None
    kind = _FAMILIES.get(family, Unavailable) if isinstance(family, str) else Unavailable
    return kind(code, str(document.get("detail", ""))[:2000])
