"""JSON lines to standard error, or to a file: who reads them needs no parser and finds no secret in them."""

import logging
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import structlog
from structlog.typing import FilteringBoundLogger

from shared.crypto.secret import Secret

Log = FilteringBoundLogger
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
# Values under these names are never written, whatever they are: a second line of defence behind the type `Secret`.
_PRIVATE_NAMES = frozenset(
    {"token", "password", "seed", "seeds", "secret", "secrets", "key", "kek", "shares", "values", "update", "body"}
)
_LONGEST_TEXT = 2000


@contextmanager
def log_stream(file: Path | None) -> Iterator[TextIO]:
    """Open where lines go: `file`, which is appended to, or standard error."""
    if file is None:
        yield sys.stderr
        return
    with file.open("a", encoding="utf-8", buffering=1) as stream:
        yield stream


def make_log(level: str = "info", stream: TextIO | None = None, **facts: str) -> Log:
    """Return a log that writes one JSON object per line; `facts` stand in each of them."""
    out = stream or sys.stderr
    log: Log = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
            _describe_exception,
            redact,
            structlog.processors.JSONRenderer(default=_plain),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS.get(level, logging.INFO)),
        cache_logger_on_first_use=True,
    ).bind(**facts)
    return log


def redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """Leave out what must not be written: secrets by type, private names, bytes and arrays by kind, long texts."""
    return {name: _shown(name, value) for name, value in event.items()}


def _shown(name: str, value: object) -> object:
    if name in _PRIVATE_NAMES or isinstance(value, Secret):
        return "<secret>"
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}..."
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, dict):
        return {str(key): _shown(str(key), item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_shown(name, item) for item in value]
    return _plain(value)


def _plain(value: object) -> str:
    # Not its repr: an array or a buffer would print what it holds.
    return f"<{type(value).__name__}>"


def _describe_exception(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Write type and places of an exception, never its arguments or the frames' variables: those may hold secrets."""
    error = event.pop("error", None)
    if isinstance(error, BaseException):
        event["error_type"] = type(error).__name__
        places, trace = [], error.__traceback__
        while trace is not None:
            code = trace.tb_frame.f_code
            places.append(f"{Path(code.co_filename).name}:{trace.tb_lineno} {code.co_name}")
            trace = trace.tb_next
        event["error_at"] = places[-8:]
    return event
