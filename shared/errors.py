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
    "secret_exposed": Code(500, "A secret was about to be copied", "Report this as a bug of Mitral."),
    "key_length": Code(500, "A key has the wrong length", "Report this as a bug of Mitral."),
    "key_malformed": Code(400, "A public key is unusable", "Send the key exactly as the site agent printed it."),
    "signature_invalid": Code(403, "A signature does not verify", "Check that the sender uses the identity key in the roster."),
    "envelope_malformed": Code(400, "A signed message is malformed", "Send a canonical DSSE envelope with one signature."),
    "envelope_kind": Code(400, "A signed message is of another kind", "Send the kind of message this step expects."),
    "signer_unknown": Code(403, "The signer is not in the roster", "Check the key id, and that the roster is current."),
    "envelope_unreadable": Code(400, "A sealed text does not open", "Make a new pairing bundle under the current roster."),
    "share_unreadable": Code(400, "A share blob does not open", "Leave this entry out and send a complaint."),
    "suite_unavailable": Code(503, "Suite 1 is not available", "Install `cryptography` from its own wheels (OpenSSL 3.5 or newer)."),
    "at_rest_damaged": Code(500, "A stored secret does not open", "Restore the state directory with its key file, or reset."),
    "key_file_permissions": Code(400, "A key file can be read by others", "Set the directory to 0700 and the file to 0400."),
    "key_file_damaged": Code(400, "A key file is damaged", "Restore it from the backup; what it sealed cannot be read without it."),
    "fingerprint_malformed": Code(400, "A fingerprint is malformed", "Type the four groups of five characters."),
    # --- secure aggregation (shared/secagg) ------------------------------------------------------------------------
    # --- protocol messages (shared/protocol) -----------------------------------------------------------------------
    "message_malformed": Code(400, "A message does not have the agreed form", "Update the older side; see docs/protocol/messages.md."),
    # --- enrolment and certificates --------------------------------------------------------------------------------
    "csr_invalid": Code(400, "A certificate request is invalid", "Send a request for a P-256 key, signed by that key."),
    "certificate_malformed": Code(400, "A certificate does not have the agreed form", "Use the certificate the coordinator issued."),
    "certificate_untrusted": Code(403, "A certificate is from another authority", "Compare the pin in the invitation by telephone."),
    "server_name_malformed": Code(400, "A server name is malformed", "Give DNS names or IP addresses."),
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
