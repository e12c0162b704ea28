"""Offline verification of audit exports for `mitral audit verify`: needs nothing but `cryptography`."""

from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import InputError, Unavailable

if TYPE_CHECKING:
    from shared.audit.verify import Report


def verify_export(path: Path, roster_hash: str | None = None, *, final: bool = False) -> "Report":
    """Return the finding of every rule on an export; broken rules are findings, not errors.

    `roster_hash` is the hash of a roster version that comes from elsewhere than the coordinator; without it the report
    says that it shows consistency only. With `final` it is a failure when no quorum of hospitals cosigned the head.

    Raises:
        InputError: ``export_missing``, ``export_roster_hash`` (not 64 hex digits).
        Unavailable: ``extra_missing`` when `cryptography` is not installed.
    """
    if not path.is_file():
        raise InputError("export_missing", f"{path} is not a file")
    try:
        from shared.audit import verify
    except ImportError as error:
        raise Unavailable(
            "extra_missing", f"verification needs the Python package {error.name or 'cryptography'}"
        ) from error
    given = None if roster_hash is None else roster_hash.strip().lower()
    if given is not None and not verify.HASH.fullmatch(given):
        raise InputError("export_roster_hash", f"{roster_hash!r:.80} is not 64 hex digits")
    return verify.verify(path, given, final=final)
