"""What an answer of the coordinator means: a success, the error it stands for, or nothing that can be trusted.

*Retry* (`Retry`): the network, a busy coordinator, or an answer that is none of ours, because a proxy probably gave it.
*Final*: a problem document of the coordinator; it becomes the error it stands for. *Undecodable* answers are retried
whatever their status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.canonical import JsonObject, parse_strict
from shared.errors import MitralError, PeerFault, Unavailable
from shared.protocol.problems import MEDIA_TYPE, error_from_problem

_BUSY = {408, 425, 429, 500, 502, 503, 504}


class Retry(Unavailable):
    """Nothing is lost, try again; the coordinator may have said when."""

    def __init__(self, code: str, detail: str = "", retry_after_seconds: float | None = None) -> None:
        """Build the error."""
        super().__init__(code, detail)
        self.retry_after_seconds = retry_after_seconds


@dataclass(frozen=True, slots=True)
class Answer:
    """A successful answer."""

    status: int
    body: bytes = field(repr=False)

    def json(self) -> JsonObject:
        """Return the object in the body.

        Raises:
            Retry: ``coordinator_answer``.
        """
        try:
            return parse_strict(self.body)
        except PeerFault as error:
            raise Retry(
                "coordinator_answer", f"status {self.status}, but the body is not ours: {error.detail}"
            ) from error


def failure(status: int, body: bytes, headers: Mapping[str, str]) -> MitralError:
    """Return the error of an answer that is no success."""
    wait = _retry_after(headers.get("Retry-After"))
    error: MitralError | None = None
    if headers.get("Content-Type", "").partition(";")[0].strip() == MEDIA_TYPE:
        try:
            error = error_from_problem(parse_strict(body))
        except PeerFault:
            error = None
    if error is None:
        code = "proxy_refused" if status == 407 else "coordinator_busy" if status in _BUSY else "coordinator_answer"
        return Retry(code, f"status {status} without a problem document; a proxy may have answered", wait)
    if isinstance(error, Unavailable) or status in _BUSY:
        return Retry(error.code, error.detail, wait)
    return error


def _retry_after(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 7 else None
