"""One exception tree with stable codes, and the one table that explains every code.

    MitralError
    |-- InputError     what a person gave is wrong; nothing was changed
    |-- PeerFault      the other side broke the protocol; evidence is kept where it matters
    |-- Refusal        a reasoned no: by a hospital's policy, or by the coordinator's permissions
    |-- Unavailable    try again later; nothing was lost
    `-- Misuse         our own bug: a function was called against its promise

A code is public API (hospitals script against it): it never changes meaning and is never reused.
"""

from typing import NamedTuple


class Code(NamedTuple):
    """What a stable code means: HTTP status at the edge, one-line title, and what to do."""

    status: int
    title: str
    remedy: str


CODES: dict[str, Code] = {
    # --- encoding and identifiers -----------------------------------------------------------------------------------
    "not_canonical": Code(500, "A value has no canonical form", "Report this as a bug of Mitral."),
    "json_malformed": Code(400, "The JSON cannot be read unambiguously", "Send an object without duplicate keys or floats."),
    "hash_malformed": Code(400, "A hash is malformed", "Send 64 lowercase hex digits."),
    "base64_malformed": Code(400, "A binary field is malformed", "Send base64url without padding."),
    "timestamp_malformed": Code(400, "A time is malformed", "Send RFC 3339 in UTC ending in Z."),
    "id_malformed": Code(400, "An identifier is malformed", "Use 1 to 64 of a-z 0-9 . _ -"),
    "internal_error": Code(500, "An internal error", "Look at the log entry with the same request id; report it as a bug."),
    # --- signatures and keys (shared/crypto) -----------------------------------------------------------------------
    # --- secure aggregation (shared/secagg) ------------------------------------------------------------------------
    # --- protocol messages (shared/protocol) -----------------------------------------------------------------------
    "message_malformed": Code(400, "A message does not have the agreed form", "Update the older side; see docs/protocol/messages.md."),
    # --- enrolment and certificates --------------------------------------------------------------------------------
    # --- coordinator -----------------------------------------------------------------------------------------------
    # --- refusals of a site ----------------------------------------------------------------------------------------
    # --- site agent ------------------------------------------------------------------------------------------------
    # --- data sets and training ------------------------------------------------------------------------------------
    # --- study files and the workbench -----------------------------------------------------------------------------
    # --- audit log -------------------------------------------------------------------------------------------------
}


class MitralError(Exception):
    """Every error Mitral raises on purpose. `code` is stable, `detail` names what was wrong in this case."""

    def __init__(self, code: str, detail: str = "") -> None:
        """Build an error of a known `code`; an unknown one is a bug and raises KeyError."""
        self.meaning = CODES[code]
        self.code = code
        self.detail = detail or self.meaning.title
        super().__init__(f"{code}: {self.detail}")

    def diagnostics(self) -> str:
        """Return text for people: what was wrong and what to do."""
        return f"{self.detail}\n  code:   {self.code} ({self.meaning.title})\n  remedy: {self.meaning.remedy}"


class InputError(MitralError):
    """What a person gave is wrong."""


class PeerFault(MitralError):
    """The other side broke the protocol."""


class Refusal(MitralError):
    """A reasoned no."""


class Unavailable(MitralError):
    """Not now; nothing was lost, try again."""


class Misuse(MitralError):
    """A bug on our side."""
