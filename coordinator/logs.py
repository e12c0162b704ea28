"""JSON lines on standard error. Nothing is logged by dumping an object: tokens, keys and weights have no field here."""

import logging
import sys
from typing import Any

import structlog

# Without local variables: in a traceback they would be keys, tokens and shares (attack row 27).
_tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
_NEVER = ("token", "authorization", "password", "secret", "seed", "share", "key", "body")


def configure_logs(level: str = "INFO") -> None:
    """Send this process's log, and that of the libraries it uses, to standard error as JSON lines."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _drop_secrets,
    ]
    structlog.configure(
        processors=[*shared, _tracebacks, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # as it is when something is said
        cache_logger_on_first_use=False,
    )
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _tracebacks,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.root.handlers = [handler]
    logging.root.setLevel(logging.WARNING)


class _StandardError(logging.Handler):
    """Writes to standard error as it is at that moment: it may have been replaced since the start."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        try:
            sys.stderr.write(self.format(record) + "\n")
        except (OSError, ValueError):
            self.handleError(record)


def _drop_secrets(_logger: Any, _method: str, event: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 (structlog)
    """Blank any field whose name promises a secret; the second net, the first one is not to log it."""
    for name in event:
        if any(word in name.lower() for word in _NEVER):
            event[name] = "<not logged>"
    return event
