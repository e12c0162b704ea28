"""The access file: where a coordinator is, the one root certificate to trust, and the token that says who asks."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from shared.canonical import from_b64u
from shared.crypto.secret import Secret
from shared.errors import InputError, MitralError
from shared.protocol.wire import Binary, WireObject

ENVIRONMENT = "MITRAL_ACCESS"


class AccessFile(WireObject):
    """The file as `mitral-coordinator init` and `operators add` write it."""

    v: Literal[1]
    kind: Literal["access"]
    url: Annotated[str, Field(pattern=r"^https://")]
    root: Binary  # the root CA certificate, DER
    operator: str
    role: str
    token: str


@dataclass(frozen=True)
class Access:
    """A checked access file; the token does not print."""

    url: str
    root: bytes
    operator: str
    role: str
    token: Secret


def load_access(path: Path | None) -> Access:
    """Read the access file at `path`, or at the one that the environment variable MITRAL_ACCESS names.

    Raises:
        InputError: ``access_file_missing``, ``access_file_malformed`` or ``access_file_permissions``.
    """
    named = path or (Path(os.environ[ENVIRONMENT]) if os.environ.get(ENVIRONMENT) else None)
    if named is None:
        raise InputError("access_file_missing", f"no access file was named: give --access FILE or set {ENVIRONMENT}")
    try:
        raw = named.read_bytes()
        mode = named.stat().st_mode
    except OSError as error:
        raise InputError("access_file_missing", f"{named}: {error.strerror}") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError(
            "access_file_permissions", f"{named} has mode {stat.S_IMODE(mode):04o}: others can read the token"
        )
    try:
        content = AccessFile.parse(raw)
        root = from_b64u(content.root)
    except MitralError as error:
        # The file holds a token, so its text never goes into the message.
        raise InputError("access_file_malformed", f"{named} is not an access file") from error
    return Access(content.url.rstrip("/"), root, content.operator, content.role, Secret(content.token.encode()))
