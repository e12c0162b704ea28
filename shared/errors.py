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
    "roster_malformed": Code(400, "A roster is malformed", "Ask the coordinator for the roster again and report it if it persists."),
    "roster_federation": Code(409, "A roster is of another federation", "Do not approve it; ask who sent it."),
    "roster_version": Code(409, "A roster version does not follow", "Do not approve it; version numbers only go up."),
    "roster_prev": Code(409, "A roster does not name its predecessor", "Do not approve it; the history may have been rewritten."),
    "roster_kem_seq": Code(409, "Keys changed without a new number", "The site renews its keys under a higher kem_seq."),
    "roster_unapproved": Code(409, "A roster lacks signatures", "Wait until every listed site has approved it."),
    "roster_quorum": Code(409, "Too few members agreed", "More members of the last version have to approve it."),
    "roster_approval_foreign": Code(400, "An approval is of something else", "Sign the roster version that is being approved."),
    "certificate_statement": Code(400, "A close statement does not fit", "Nothing is released; the coordinator is at fault."),
    "certificate_signer": Code(400, "A decision comes from the wrong site", "Nothing is released; the coordinator is at fault."),
    "certificate_forged": Code(400, "A decision does not verify", "Nothing is released; the coordinator is at fault."),
    "certificate_short": Code(400, "A certificate has too few decisions", "Nothing is released until enough sites signed."),
    "certificate_threshold": Code(400, "A threshold is too low", "Nothing is released; the study needs more sites."),
    # --- protocol messages (shared/protocol) -----------------------------------------------------------------------
    "layout_impossible": Code(500, "A context asks for a vector that does not exist", "Report this as a bug of Mitral."),
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
    "study_file_missing": Code(400, "A study file cannot be read", "Check the path; `mitral study new` writes one."),
    "study_file_invalid": Code(400, "A study file has problems", "Correct the lines; docs/reference/study-file.md has every key."),
    "study_file_exists": Code(400, "The file exists already", "Give another name, or --force to replace it."),
    "study_federation": Code(400, "The study names another federation", "Write the federation's id into the study file."),
    "access_file_missing": Code(400, "The access file cannot be read", "Give the file you got from the administrator."),
    "access_file_malformed": Code(400, "The access file is malformed", "Ask the administrator for a new one."),
    "access_file_permissions": Code(400, "The access file can be read by others", "Set the access file to mode 0600."),
    "coordinator_answer": Code(503, "The answer is not from a coordinator", "Check the address, and proxies on the way."),
    "blob_damaged": Code(502, "Bytes do not have their digest", "Try again; if it repeats, the store is damaged."),
    "model_version_missing": Code(404, "There is no such model version yet", "Wait for the first finished round."),
    "extra_missing": Code(400, "A part of Mitral is not installed", "Run the pip command in the message."),
    "rehearsal_failed": Code(500, "A step of the rehearsal failed", "Read the log files named in the message."),
    "rehearsal_timeout": Code(503, "A step of the rehearsal took too long", "Read the log files; on a busy machine, try again."),
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
