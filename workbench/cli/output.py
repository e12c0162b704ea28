"""How commands speak: results on standard output, everything else on standard error, JSON when it was asked for."""

import json
import sys
from typing import Any

from rich.console import Console


def console() -> Console:
    """Return the console for results; it knows whether a terminal is there and honours NO_COLOR."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def remark(text: str) -> None:
    """Print a line for people on standard error."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 (this is the place that prints)


def line(text: str) -> None:
    """Print a line of a result."""
    print(text, flush=True)  # noqa: T201 (this is the place that prints)


def as_json(value: Any) -> None:  # noqa: ANN401 (anything JSON can hold)
    """Print a result as JSON."""
    line(json.dumps(value, indent=2, sort_keys=False))
