"""The one place that turns an error into an answer (RFC 9457); errors of our own are logged here and only here."""

import json

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from shared.errors import InputError, Misuse, MitralError, Unavailable
from shared.protocol.problems import MEDIA_TYPE, problem_document

_log = structlog.get_logger("api")
_RETRY_AFTER_SECONDS = "5"


def problem_response(error: MitralError, request_id: str) -> Response:
    """Return the problem document of an error."""
    headers = {"Retry-After": _RETRY_AFTER_SECONDS} if isinstance(error, Unavailable) else {}
    document = problem_document(error, request_id)
    return Response(json.dumps(document).encode(), int(document["status"]), headers, MEDIA_TYPE)


def internal_problem(error: Exception, request_id: str, route: str) -> Response:
    """Return a problem that says nothing but the request id, and log what happened under it."""
    _log.error("request_failed", request_id=request_id, route=route, exc_info=error)
    code = error.code if isinstance(error, Misuse) else "internal_error"
    return problem_response(Misuse(code), request_id)


async def on_http_error(_request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses: unknown paths and methods."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    code = {404: "route_unknown", 405: "method_not_allowed"}.get(status, "request_malformed")
    return problem_response(InputError(code), "")
