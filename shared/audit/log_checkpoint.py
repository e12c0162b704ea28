"""Log checkpoints: C2SP signed notes with the log's head and the sites' cosignatures (PROTOCOLS B3).

A note is three lines (origin, size, root in base64), a blank line, and signature lines: an em dash, a name, and key id
and signature in base64. Lines of keys the reader does not know are ignored, as the specification asks; what is asked
for must be there and verify.
"""

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass

from shared.crypto.identity import SigningKey, VerifyKey
from shared.errors import PeerFault

ED25519 = 0x01
COSIGNATURE = 0x04
MOST_SIGNATURES = 1000
MOST_BYTES = 2**20
_DASH = "\u2014 "
_NAME = re.compile(r"[!-*,-~]{1,200}")  # printable ASCII without blanks and "+"
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True, slots=True)
class LogVkey:
    """A C2SP verifier key: a name, a signature type (`ED25519` or `COSIGNATURE`) and a public key."""

    name: str
    kind: int
    key: VerifyKey

    @property
    def key_id(self) -> bytes:
        """Return the four bytes that mark this key's signatures."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.key.bytes).digest()[:4]

    def encode(self) -> str:
        """Return ``name+hex(key id)+base64(type || key)``."""
        return f"{self.name}+{self.key_id.hex()}+{_base64(bytes([self.kind]) + self.key.bytes)}"


@dataclass(frozen=True, slots=True)
class LogCheckpoint:
    """The head of a log: its origin, how many entries it has, and their root."""

    origin: str
    size: int
    root: bytes

    def body(self) -> str:
        """Return the signed text, three lines."""
        return f"{self.origin}\n{self.size}\n{_base64(self.root)}\n"


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the claimed name, the key id and what follows it."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note; nothing in it has been verified."""

    checkpoint: LogCheckpoint
    signatures: tuple[NoteSignature, ...]


def witness_name(origin: str, site_id: str) -> str:
    """Return the key name a site cosigns under: ``fed.example/log/1`` gives ``fed.example/site/<site id>``."""
    return f"{origin.rpartition('/log/')[0] or origin}/site/{site_id}"


def decode_vkey(text: str) -> LogVkey:
    """Parse a verifier key and check that its key id fits.

    Raises:
        PeerFault: ``vkey_malformed``.
    """
    parts = text.split("+", 2)
    try:
        raw = _from_base64(parts[2])
        vkey = LogVkey(parts[0], raw[0], VerifyKey.from_bytes(raw[1:]))
    except (ValueError, IndexError, PeerFault) as error:
        raise PeerFault("vkey_malformed", f"{text[:100]!r} is not a verifier key") from error
    if not _NAME.fullmatch(vkey.name) or vkey.kind not in {ED25519, COSIGNATURE} or vkey.encode() != text:
        raise PeerFault("vkey_malformed", f"{text[:100]!r} has another type or key id than its key")
    return vkey


def sign_checkpoint(checkpoint: LogCheckpoint, key: SigningKey) -> str:
    """Return the note the log publishes, signed under the log's origin as key name."""
    vkey = LogVkey(checkpoint.origin, ED25519, key.verify_key)
    return checkpoint.body() + "\n" + _line(vkey, key.sign(checkpoint.body().encode()))


def parse_note(text: str) -> Note:
    """Parse a note strictly; verify nothing.

    Raises:
        PeerFault: ``checkpoint_malformed``.
    """
    try:
        return _parse(text)
    except (ValueError, UnicodeError) as error:
        raise PeerFault("checkpoint_malformed", f"not a log checkpoint: {str(error)[:200]}") from error


def verify_checkpoint(text: str, vkey: LogVkey, origin: str) -> LogCheckpoint:
    """Return the checkpoint if `vkey` signed it and it is of `origin`.

    Raises:
        PeerFault: ``checkpoint_malformed``, ``checkpoint_origin``, ``checkpoint_unsigned`` (no line of that key),
            ``signature_invalid``.
    """
    note = parse_note(text)
    if note.checkpoint.origin != origin or vkey.name != origin:
        raise PeerFault("checkpoint_origin", f"a checkpoint of {note.checkpoint.origin!r}, expected {origin!r}")
    body = note.checkpoint.body().encode()
    for signature in _of(note, vkey, ED25519):
        vkey.key.verify(signature, body)
    return note.checkpoint


def cosign(checkpoint: LogCheckpoint, name: str, key: SigningKey, unix_seconds: int) -> str:
    """Return a ``cosignature/v1`` line. The caller has checked consistency and stored the head (PROTOCOLS B3)."""
    signature = key.sign(_cosigned(checkpoint, unix_seconds))
    return _line(LogVkey(name, COSIGNATURE, key.verify_key), unix_seconds.to_bytes(8, "big") + signature)


def verify_cosignature(text: str, vkey: LogVkey) -> int:
    """Return the time (Unix seconds) at which the witness `vkey` cosigned this note.

    Raises:
        PeerFault: ``checkpoint_malformed``, ``checkpoint_unsigned``, ``signature_invalid``.
    """
    note = parse_note(text)
    latest = 0
    for signature in _of(note, vkey, COSIGNATURE):
        if len(signature) != 72:
            raise PeerFault("signature_invalid", "a cosignature has 8 bytes of time and 64 of signature")
        moment = int.from_bytes(signature[:8], "big")
        vkey.key.verify(signature[8:], _cosigned(note.checkpoint, moment))
        latest = max(latest, moment)
    return latest


def add_signature_lines(text: str, lines: list[str]) -> str:
    """Return the note with further signature lines, each once.

    Raises:
        PeerFault: ``checkpoint_malformed`` for a line that is none.
    """
    known = set(text.rsplit("\n\n", maxsplit=1)[-1].splitlines(keepends=True))
    longer = text + "".join(line for line in dict.fromkeys(lines) if line not in known)
    parse_note(longer)
    return longer


def lines_of(text: str, vkey: LogVkey) -> list[str]:
    """Return the signature lines of a note that name `vkey`, as they stand there; nothing is verified.

    Raises:
        PeerFault: ``checkpoint_malformed``.
    """
    parse_note(text)
    lines = text.rpartition("\n\n")[2].splitlines(keepends=True)
    named = [_parse_line(line.rstrip("\n")) for line in lines]
    wanted = (vkey.name, vkey.key_id)
    return [line for line, parsed in zip(lines, named, strict=True) if (parsed.name, parsed.key_id) == wanted]


def _of(note: Note, vkey: LogVkey, kind: int) -> list[bytes]:
    wanted = (vkey.name, vkey.key_id) if vkey.kind == kind else None
    found = [line.signature for line in note.signatures if (line.name, line.key_id) == wanted]
    if not found:
        raise PeerFault("checkpoint_unsigned", f"the checkpoint has no signature of {vkey.name}")
    return found


def _cosigned(checkpoint: LogCheckpoint, unix_seconds: int) -> bytes:
    return f"cosignature/v1\ntime {unix_seconds}\n{checkpoint.body()}".encode()


def _line(vkey: LogVkey, signature: bytes) -> str:
    return f"{_DASH}{vkey.name} {_base64(vkey.key_id + signature)}\n"


def _parse(text: str) -> Note:
    if len(text.encode()) > MOST_BYTES:
        raise ValueError("it is too long")
    if any((character < " " and character != "\n") or character == "\x7f" for character in text):
        raise ValueError("it holds a control character")
    body, blank, tail = text.rpartition("\n\n")
    lines = body.split("\n")
    if not blank or len(lines) != 3 or not tail.endswith("\n"):
        raise ValueError("it is not three lines, a blank line and signature lines")
    origin, size, root = lines
    if not _NAME.fullmatch(origin) or not _SIZE.fullmatch(size) or len(_from_base64(root)) != 32:
        raise ValueError("origin, size or root is malformed")
    signatures = tuple(_parse_line(line) for line in tail[:-1].split("\n"))
    if len(signatures) > MOST_SIGNATURES:
        raise ValueError("it has too many signatures")
    return Note(LogCheckpoint(origin, int(size), _from_base64(root)), signatures)


def _parse_line(line: str) -> NoteSignature:
    name, blank, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not blank or not name or "+" in name:
        raise ValueError("a signature line is malformed")
    raw = _from_base64(encoded)
    if len(raw) < 5:
        raise ValueError("a signature is too short")
    return NoteSignature(name, raw[:4], raw[4:])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _from_base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("a field is not base64") from error
    if _base64(data) != text:
        raise ValueError("a field is not canonical base64")
    return data
