"""Access and link files: where a coordinator is, which root to trust, which secret to send."""

import json
import os
from pathlib import Path

from shared.canonical import b64u
from shared.crypto.secret import Secret
from shared.errors import InputError


def build_access_file(url: str, root_der: bytes, operator: str, role: str, token: Secret) -> dict[str, object]:
    """Return the file a command-line client reads: where, which root, which token."""
    return {
        "v": 1,
        "kind": "access",
        "url": url,
        "root": b64u(root_der),
        "operator": operator,
        "role": role,
        "token": token.reveal().decode(),
    }


def build_link_file(url: str, root_der: bytes, operator: str, link: Secret, expires_at: str) -> dict[str, object]:
    """Return the file with which a person sets up an account, once."""
    return {
        "v": 1,
        "kind": "link",
        "url": url,
        "root": b64u(root_der),
        "operator": operator,
        "link": link.reveal().decode(),
        "expires_at": expires_at,
    }


def write_access_file(path: Path, access: dict[str, object]) -> None:
    """Write an access or link file that only its owner can read.

    Raises:
        InputError: ``file_exists``; a token is never overwritten.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InputError("file_exists", f"{path} exists; it is not overwritten") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(access, file, indent=2)
        file.write("\n")
