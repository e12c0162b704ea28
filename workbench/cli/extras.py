"""A missing extra is named with the command that installs it, never shown as a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import InputError

_OURS = ("coordinator", "shared", "site_agent", "workbench")


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Import what needs the extra `name` inside this block.

    Raises:
        InputError: ``extra_missing``, with the pip command.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in _OURS:
            raise  # a file of our own is missing: that is a broken installation, not a choice
        raise InputError("extra_missing", f"{missing} is not installed. Run: pip install 'mitral[{name}]'") from error
