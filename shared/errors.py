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
    "sa_c1": Code(409, "The threshold is too low for one certificate", "Do not take part; the coordinator is at fault."),
    "sa_c2": Code(409, "The threshold is out of range", "Do not take part; the coordinator is at fault."),
    "sa_c3": Code(409, "Too few honest inputs would be in the sum", "Invite more sites or raise m."),
    "sa_c4": Code(409, "Too few survivors would be enough", "A sum needs at least three sites."),
    "sa_c5": Code(409, "The corrupt bound is not the roster's", "Do not take part; the coordinator is at fault."),
    "sa_c6": Code(409, "The invited sites are not a proper cohort", "Do not take part; the coordinator is at fault."),
    "sa_threshold": Code(409, "The threshold is not the formula's", "Do not take part; the coordinator is at fault."),
    "sa_word_bits": Code(409, "A word size is not supported", "Choose b from 8 to 32 and q from 2 to 20, at most b."),
    "sa_overflow": Code(409, "The sum could overflow its words", "Choose fewer quantization bits or wider words."),
    "sa_checksum": Code(502, "A sum does not fit its checksums", "The round is lost; all its sites make new pairings."),
    "sa_site_count": Code(502, "A sum does not count its sites", "The round is lost; all its sites make new pairings."),
    "mask_reuse": Code(500, "A mask was about to be used twice", "Report this as a bug of Mitral."),
    "mask_inputs": Code(500, "A vector and its masks do not fit", "Report this as a bug of Mitral."),
    "unmask_inputs": Code(500, "Secrets and survivors do not fit", "Report this as a bug of Mitral."),
    "stream_position": Code(500, "A keystream was asked for the impossible", "Report this as a bug of Mitral."),
    "vector_layout": Code(500, "A vector has an impossible layout", "Report this as a bug of Mitral."),
    "tail_layout": Code(500, "A tail has an impossible layout", "Report this as a bug of Mitral."),
    "tail_overflow": Code(500, "A value does not fit its place in the tail", "Give the item more limbs in the plan."),
    "clip_table": Code(500, "A clip table does not fit the update", "Report this as a bug of Mitral."),
    "update_not_finite": Code(400, "An update holds NaN or infinity", "Lower the learning rate or look at the data; nothing was sent."),
    "weight_out_of_range": Code(400, "A sample count is out of range", "Raise the study's w_cap above every site's count."),
    "chunk_size": Code(400, "A chunk has the wrong size", "Send the chunk again as it was sealed."),
    "chunk_count": Code(400, "A manifest lists too few or many chunks", "Leave this site out and keep its manifest as evidence."),
    "chunk_hash": Code(400, "A chunk is not the one that was signed", "Send the chunk again as it was sealed."),
    "share_malformed": Code(400, "A share is malformed", "Leave this entry out and keep it as evidence."),
    "share_commitment": Code(400, "A share is not the committed one", "Leave this entry out and send a complaint."),
    "shares_missing": Code(409, "Too few shares were released", "Wait for more sites to answer."),
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
    "data_missing": Code(400, "A data set is not there", "Give the path of a .csv or .npz file or of a folder of images."),
    "data_column_missing": Code(400, "A column is missing", "Name columns the file has; names count upper and lower case."),
    "data_not_numeric": Code(400, "A cell is not a number", "Correct the cell or leave the column out with --features."),
    "data_label_invalid": Code(400, "A label is not a class", "Labels are whole numbers from 0; correct or remove the row."),
    "data_one_class": Code(400, "A data set has one class only", "Give data with cases of at least two classes."),
    "data_empty": Code(400, "A data set has no cases", "Check the file; it needs rows in the training part."),
    "data_unreadable": Code(400, "A data set cannot be read", "Check the named file, row or key; see the data page."),
    "data_split_invalid": Code(400, "A split is not possible", "Use shares such as 70/15/15, or train, validation, test."),
    "data_changed": Code(409, "A data set changed after registration", "Restore the file, or register it under a new name."),
    "data_task_mismatch": Code(409, "A data set does not fit the task", "Approve the study with a data set of the form it asks."),
    "training_failed": Code(500, "The training process failed", "Read the detail; the site agent starts a fresh process."),
    "training_timeout": Code(503, "Training took too long", "Ask for a longer deadline, or train on less data."),
    "training_stopped": Code(503, "Training was stopped", "It starts again when the site agent runs again."),
    "result_malformed": Code(500, "The training process returned nonsense", "Nothing was sent; report it with the agent's log."),
    "update_not_finite": Code(500, "An update holds NaN or infinity", "Nothing was sent; lower the learning rate of the study."),
    "statistics_overflow": Code(400, "A column's values are too large", "Use another unit; sums must stay below 2^62."),
    # --- models, tasks and metrics ---------------------------------------------------------------------------------
    "task_invalid": Code(400, "A task description is not possible", "Correct the key that the detail names."),
    "strategy_invalid": Code(400, "A strategy is not possible", "Correct the key that the detail names."),
    "metrics_invalid": Code(400, "Metrics are not possible", "Use an even number of bins from 2 to 4096."),
    "metrics_too_few_cases": Code(503, "Too few cases for a figure", "At least 10 cases with and 10 without are needed."),
    "metrics_malformed": Code(500, "Summed metrics do not fit together", "Do not use the figures; a site's sums are wrong."),
    "model_malformed": Code(400, "A model file is malformed", "Send canonical safetensors as Mitral writes them."),
    "model_not_finite": Code(400, "A model holds NaN or infinity", "Go back to an earlier model version."),
    "model_layout_differs": Code(409, "Two models have different tensors", "Use the model that the study's plan names."),
    "aggregate_malformed": Code(400, "An aggregate does not fit the model", "Nothing was changed; report it with the round's log."),
    # --- study files and the workbench -----------------------------------------------------------------------------
    "demo_data_missing": Code(400, "A demo's data is not there", "Get the files the detail names and give --data PATH."),
    "study_file_missing": Code(400, "A study file cannot be read", "Check the path; `mitral study new` writes one."),
    "study_file_invalid": Code(400, "A study file has problems", "Correct the lines; docs/reference/study-file.md has every key."),
    "study_file_exists": Code(400, "The file exists already", "Give another name, or --force to replace it."),
    "study_federation": Code(400, "The study names another federation", "Write the federation's id into the study file."),
    "access_file_missing": Code(400, "The access file cannot be read", "Give the file you got from the administrator."),
    "access_file_malformed": Code(400, "The access file is malformed", "Ask the administrator for a new one."),
    "access_file_permissions": Code(400, "The access file can be read by others", "Set the access file to mode 0600."),
    "coordinator_unreachable": Code(503, "The coordinator cannot be reached", "Check the address, the network and the proxy."),
    "coordinator_answer": Code(503, "The answer is not from a coordinator", "Check the address, and proxies on the way."),
    "blob_damaged": Code(502, "Bytes do not have their digest", "Try again; if it repeats, the store is damaged."),
    "model_version_missing": Code(404, "There is no such model version yet", "Wait for the first finished round."),
    "export_missing": Code(400, "There is no such export", "Give the zip file that `mitral-coordinator audit export` wrote."),
    "export_not_verified": Code(400, "An audit export does not verify", "Keep the export: it is evidence."),
    "bench_arguments": Code(400, "A benchmark cannot be run like this", "Give numbers within the limits in the message."),
    "demo_arguments": Code(400, "The demo cannot be run like this", "See `mitral demo --help`."),
    "extra_missing": Code(400, "A part of Mitral is not installed", "Run the pip command in the message."),
    "rehearsal_failed": Code(500, "A step of the rehearsal failed", "Read the log files named in the message."),
    "rehearsal_timeout": Code(503, "A step of the rehearsal took too long", "Read the log files; on a busy machine, try again."),
    # --- audit log -------------------------------------------------------------------------------------------------
    "proof_out_of_range": Code(500, "A proof was asked for outside the tree", "Report this as a bug of Mitral."),
    "inclusion_invalid": Code(400, "An entry is not in the log", "Keep the receipt and the proof: they are evidence."),
    "consistency_invalid": Code(400, "The log was rewritten", "Keep both checkpoints: together they are evidence."),
    "vkey_malformed": Code(400, "A verifier key is malformed", "Copy the log's key from the roster."),
    "checkpoint_malformed": Code(400, "A log checkpoint is malformed", "Fetch it again; keep it if it stays so."),
    "checkpoint_origin": Code(400, "A checkpoint is of another log", "Check which federation it was fetched from."),
    "checkpoint_unsigned": Code(400, "A checkpoint lacks a signature", "Keep it, and ask the coordinator which key it uses."),
    "entry_malformed": Code(400, "A log entry is malformed", "Keep the entry: it is evidence."),
    "entry_unknown_type": Code(500, "A log entry has an unknown type", "Report this as a bug of Mitral."),
    "disclosure_mismatch": Code(400, "A disclosed value does not fit", "Keep value and salt: they are evidence."),
    "archive_malformed": Code(400, "An audit export cannot be built", "Look at the detail; report it if it persists."),
    "export_roster_hash": Code(400, "A roster hash is malformed", "Give the 64 hex digits you have from elsewhere."),
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
