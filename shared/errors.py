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


# A table is read line by line, so its lines may be long.
# fmt: off
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
    "settings_invalid": Code(400, "A setting is invalid", "Correct the named key; docs/reference/settings.md lists them all."),
    "state_missing": Code(400, "The state directory is not initialised", "Run `mitral-coordinator init` first, or name the right directory."),
    "state_exists": Code(409, "The state directory is initialised already", "Name an empty directory; nothing was overwritten."),
    "state_newer": Code(409, "The database is of a newer release", "Install the release that last used it, or a newer one."),
    "state_in_use": Code(503, "The state directory is in use", "Stop the other process that works in it."),
    "port_in_use": Code(503, "A port cannot be bound", "Stop what listens there, or choose another port in coordinator.toml."),
    "storage_full": Code(507, "The disk is full", "Make room at the coordinator; nothing was half done, send it again."),
    "file_exists": Code(409, "A file exists already", "Name a new file; a token is never overwritten."),
    "access_missing": Code(400, "No access file is given", "Give --access FILE or set MITRAL_ACCESS."),
    "access_malformed": Code(400, "An access file cannot be read", "Use the file that `operators add` or `init` wrote."),
    "route_unknown": Code(404, "There is nothing under this path", "Compare the path with docs/reference/http.md."),
    "method_not_allowed": Code(405, "The path has no such method", "Compare the method with docs/reference/http.md."),
    "request_malformed": Code(400, "A request is malformed", "Send HTTP/1.1 as docs/reference/http.md describes."),
    "body_too_large": Code(413, "A body is too large", "Send at most what the route takes."),
    "body_truncated": Code(400, "A body is incomplete", "Send it again from the start."),
    "length_required": Code(411, "A body needs its length", "Send a Content-Length header."),
    "number_malformed": Code(400, "A number is malformed", "Send plain decimal digits."),
    "range_invalid": Code(416, "A range is invalid", "Ask for one range of bytes inside the blob."),
    "field_unknown": Code(400, "A field is unknown", "Leave it out, or correct its name."),
    "field_invalid": Code(400, "A field is missing or invalid", "Send the field in the form that is named."),
    "certificate_required": Code(401, "A client certificate is required", "Connect with the certificate the site was issued."),
    "certificate_superseded": Code(403, "The certificate was replaced", "Use the newest certificate of the site."),
    "certificate_expired": Code(403, "The certificate has expired", "Enrol again, with the same identity key."),
    "site_unknown": Code(404, "There is no such site", "Check the id with `mitral-coordinator sites list`."),
    "site_exists": Code(409, "The site exists already", "Revoke it first if it has to enrol anew."),
    "site_not_pending": Code(409, "The site does not wait for approval", "Look at its state with `mitral-coordinator sites list`."),
    "site_not_approved": Code(403, "The site is not approved", "An administrator approves it after comparing the fingerprint."),
    "site_revoked": Code(403, "The site was revoked", "Ask the federation's administrator; a new invitation is needed."),
    "site_mismatch": Code(403, "A site acts in another's name", "Certificate, path, signature and payload must name one site."),
    "site_without_key": Code(500, "A site has no identity key", "Report this as a bug of Mitral."),
    "instance_conflict": Code(409, "A second agent has this identity", "Stop one of them; a copied folder or restored snapshot must not run."),
    "seq_reused": Code(409, "A number was signed twice", "Stop the second agent; a restored state must be reset."),
    "statement_conflict": Code(409, "Another message stands here already", "Send the very bytes that were sent before, or nothing."),
    "statement_lost": Code(500, "A message was not recorded", "Report this as a bug of Mitral."),
    "no_principal": Code(500, "A route forgot to ask who calls", "Report this as a bug of Mitral."),
    "fingerprint_mismatch": Code(409, "The fingerprints differ", "Do not approve; call the hospital back under a number you know."),
    "enrolment_token_unknown": Code(403, "The token is not known", "Use the newest invitation file."),
    "enrolment_token_expired": Code(403, "The invitation has expired", "Ask the administrator for a new one."),
    "enrolment_token_used": Code(409, "The token was used with other keys", "Ask the administrator for a new invitation, and why."),
    "enrolment_unknown": Code(404, "There is no such enrolment", "Enrol with an invitation first."),
    "enrolment_rejected": Code(403, "The enrolment was not accepted", "Ask the federation's administrator."),
    "token_missing": Code(401, "A token is required", "Send the token of an access file."),
    "token_invalid": Code(401, "The token is not valid", "Ask an administrator for a new access file."),
    "permission_denied": Code(403, "The role does not allow this", "Ask an operator whose role does."),
    "role_unknown": Code(400, "There is no such role", "Choose administrator, researcher, auditor or viewer."),
    "operator_exists": Code(409, "The operator exists already", "Choose another name."),
    "operator_unknown": Code(404, "There is no such operator", "Check the name with `mitral-coordinator operators list`."),
    "operator_last": Code(409, "The last administrator stays", "Add another administrator first."),
    "roster_unknown": Code(404, "There is no such roster version", "List the versions first."),
    "roster_too_small": Code(409, "Too few sites for a roster", "Approve at least three sites first."),
    "roster_bound_invalid": Code(400, "The corrupt bound is impossible", "Choose c between 1 and the number of sites minus one."),
    "roster_unchanged": Code(409, "The roster would not change", "Nothing has to be proposed."),
    "roster_superseded": Code(409, "The roster version is not up for approval", "Look at the newest version."),
    "roster_missing": Code(409, "No roster is active", "Propose one, and let every site approve it."),
    "blob_unknown": Code(404, "There is no such blob", "Check the digest, and that its study names you."),
    "blob_mismatch": Code(400, "A blob has another digest", "Send the bytes whose SHA-256 stands in the path."),
    "study_unknown": Code(404, "There is no such study", "Check the id with `mitral-coordinator studies list`."),
    "study_exists": Code(409, "The study exists with another plan", "Choose another id; a plan never changes."),
    "study_state": Code(409, "The study's state does not allow this", "Look at the study first."),
    "study_expired": Code(409, "The plan has expired", "Submit a study with a later not_after."),
    "study_not_owned": Code(403, "The study is another researcher's", "Ask its owner."),
    "study_not_of_site": Code(403, "The study does not name this site", "Nothing was changed; the study's sites are part of its plan."),
    "plan_invalid": Code(400, "The study protocol is not acceptable", "Correct the named key with `mitral study check`."),
    "initial_model_missing": Code(409, "The initial model is not here", "Upload it before the study is submitted."),
    "approval_mismatch": Code(400, "The approval is of another plan", "Approve the plan digest the coordinator shows."),
    "pairing_roster": Code(409, "The bundle is under another roster", "Make a new bundle under the active roster."),
    "pairing_serial": Code(409, "The bundle's serial is not higher", "Make a new bundle with a higher serial."),
    "round_unknown": Code(404, "There is no such context", "Poll for work again."),
    "round_closed": Code(409, "The round does not take this any more", "Wipe what belongs to it and poll for work."),
    "round_transition": Code(500, "A round cannot move like this", "Report this as a bug of Mitral."),
    "site_not_invited": Code(403, "The site was not invited to this round", "Poll for work again."),
    "chunk_unknown": Code(400, "The vector has no such chunk", "Compare the context's length with the chunk's index."),
    "upload_conflict": Code(409, "Other bytes are here already", "An update is uploaded once; send the very bytes that were sent before."),
    "upload_incomplete": Code(409, "The upload is not complete", "Send the missing chunks or share blobs, then the manifest."),
    "upload_missing": Code(500, "An upload is not on disk any more", "Restore the state directory, or let the round expire."),
    "shares_length": Code(400, "Share blobs have another length", "Send one blob per invited site, in the order of P."),
    "manifest_mismatch": Code(400, "A manifest does not fit", "Send the manifest of exactly what was uploaded for this context."),
    "decision_mismatch": Code(409, "The decision is about another statement", "Decide on the statement the coordinator proposed."),
    "unmask_mismatch": Code(400, "A response is not what was asked for", "Release exactly the shares the certificate entitles to."),
    "attestation_mismatch": Code(409, "The attestation is about something else", "Compare the model with the published outcome; keep the evidence."),
    "log_empty": Code(503, "The log has no entries yet", "Try again in a moment."),
    "log_node_missing": Code(500, "The log's tree has a gap", "Stop the service and restore the database from the backup."),
    # --- refusals of a site ----------------------------------------------------------------------------------------
    "study_not_approved": Code(403, "The steward has not approved the study", "Approve it with `mitral-site studies approve`."),
    "plan_not_approved": Code(403, "The steward approved another plan", "Read the plan that is asked for, and approve it if it is right."),
    "plan_expired": Code(403, "The plan has run out", "Submit a study with a later not_after."),
    "approval_unsigned": Code(403, "An approval is not the one that was signed", "The steward approves again; find out who changed the state directory."),
    "approval_expired": Code(403, "The steward's approval has ended", "Ask the steward to approve again with a later --until."),
    "approval_hours": Code(403, "The hospital works on studies at other hours", "It takes part again in its hours; longer upload windows help."),
    "approval_kind": Code(403, "The approval is for other contributions", "Ask the steward to approve this kind of contribution."),
    "approval_rounds": Code(403, "The approved number of rounds is used up", "Ask the steward to approve more rounds."),
    "approval_epochs": Code(403, "The plan trains longer than was approved", "Ask the steward to approve more epochs, or plan fewer."),
    "approval_hospitals": Code(403, "Sums over too few hospitals would be accepted", "Open the round with more hospitals, or raise the plan's least_survivors."),
    "approval_data": Code(403, "The data set is another version than approved", "The steward approves the version that is registered now."),
    "approval_budget": Code(403, "The approved privacy budget does not suffice", "Plan within the budget, or ask the steward for a larger one."),
    "contribution_unknown": Code(400, "A contribution is unknown", "Choose from statistics, update and metrics."),
    "hours_malformed": Code(400, "Hours cannot be read", "Give `18:00-06:00` or `mon-fri 18:00-06:00`, and a time zone such as Europe/Berlin."),
    "plan_hash_mismatch": Code(409, "The plan is another than the one named", "Read the plan again; approve the digest that is shown."),
    "plan_unacceptable": Code(400, "A plan cannot be carried out here", "Correct what the detail names, or update the site agent."),
    "plan_equivocation": Code(409, "A study's plan was exchanged", "Ask the researcher; a changed plan is a new study."),
    "roster_not_active": Code(409, "The roster is not active at this site", "Compare the fingerprints and run `mitral-site roster approve`."),
    "roster_expired": Code(409, "The roster has run out", "Propose and approve a new version."),
    "roster_equivocation": Code(409, "One roster version came in two forms", "Do not approve it; call the other hospitals."),
    "roster_own_entry": Code(409, "A roster is wrong about this site", "Do not approve it; ask the administrator who changed the keys."),
    "least_survivors_low": Code(403, "Too few survivors would be accepted", "The coordinator has to open the round as the plan says."),
    "layout_differs": Code(403, "The vector is not what the plan leads to", "Both sides need the same release; compare the plan."),
    "clip_differs": Code(403, "The clip table is not the plan's", "The coordinator has to open the round as the plan says."),
    "dp_differs": Code(403, "The privacy parameters are not the plan's", "The coordinator has to open the round as the plan says."),
    "pairing_unknown": Code(409, "A pairing bundle is not known here", "It is taken in at the next poll, if it verifies."),
    "pairing_superseded": Code(409, "A pairing bundle is not the newest", "The next round has to name the newest bundles."),
    "pairing_not_covering": Code(409, "Two sites do not cover each other", "Both make new bundles; one of them is left out until then."),
    "round_not_newer": Code(409, "A round number does not rise", "The coordinator opens a new round with a higher number."),
    "round_not_bound": Code(409, "A context is not bound here", "Nothing was signed; the coordinator asks again."),
    "round_superseded": Code(409, "A later round was bound", "Nothing is signed for earlier rounds any more."),
    "round_wiped": Code(409, "The round is over at this site", "Its secrets are gone; other sites have to answer."),
    "round_released": Code(409, "The round was decided here already", "Nothing has to be done."),
    "statistics_repeated": Code(403, "Statistics were sealed before", "They are summed once per study; two sums would show a single site."),
    "histogram_repeated": Code(403, "Scores of this model were sealed before", "Ask for scores of another model version."),
    "outcome_not_newest": Code(409, "The context skips an outcome", "The next round has to follow the newest published outcome."),
    "model_not_accepted": Code(403, "The model version was not accepted here", "Only versions this site recomputed, or c+1 sites attested, are trained on."),
    "model_overused": Code(403, "Too many updates from one model version", "An administrator finds out why rounds fail, and starts a new study."),
    "context_expired": Code(409, "The context has run out", "Check this site's clock if others could take part."),
    "kind_unsupported": Code(403, "This kind of context is not supported", "Update the site agent."),
    "dataset_unknown": Code(409, "A data set is not registered", "Register it with `mitral-site data add`."),
    "statistics_missing": Code(409, "The federated statistics are not known", "They come with the outcome of the statistics round."),
    "upload_window_over": Code(409, "The upload window is over", "The site takes part in the next round; ask for longer windows."),
    "manifest_foreign": Code(403, "An upload is counted that this site did not make", "Keep the evidence; somebody may have this site's keys."),
    "decision_conflict": Code(409, "Two statements for one context", "Keep the evidence; the coordinator showed different survivors."),
    "certificate_key_mismatch": Code(400, "A certificate is for another key", "Enrol again with a new invitation."),
    # --- site agent ------------------------------------------------------------------------------------------------
    "not_enrolled": Code(400, "This state directory is not enrolled", "Run `mitral-site enrol` with an invitation, or name the right --state."),
    "enrolled_elsewhere": Code(409, "The state directory belongs to another site", "Name another --state directory for this invitation."),
    "invitation_invalid": Code(400, "The invitation cannot be used", "Ask the federation's administrator for a new file."),
    "enrolment_answer": Code(502, "The enrolment answer is wrong", "Stop, and call the administrator: somebody may sit in between."),
    "state_permissions": Code(400, "The state directory can be read by others", "Set it to mode 0700."),
    "dataset_exists": Code(409, "The name is taken by other data", "Register the data under another name."),
    "confirmation_missing": Code(400, "A person has to confirm", "Give the fingerprint you compared as an option."),
    "disk_full": Code(507, "The disk is full", "Make room at the site; nothing was half done, it goes on by itself."),
    "extra_ca_unreadable": Code(400, "The extra CA file cannot be read", "Name a PEM file with certificates."),
    "own_certificate_expired": Code(503, "This site's TLS certificate has expired", "Enrol again with a new invitation; check the clock."),
    "own_certificate_not_yet_valid": Code(503, "This site's TLS certificate is not valid yet", "Correct this machine's clock."),
    "tls_untrusted": Code(503, "The other end is not our coordinator", "A proxy may inspect TLS: exempt this host, or set extra_ca_file."),
    "tls_certificate_expired": Code(503, "The coordinator says our certificate expired", "Enrol again with a new invitation; check the clock."),
    "tls_certificate_revoked": Code(503, "The coordinator says our certificate is revoked", "Ask the federation's administrator."),
    "tls_certificate_unknown": Code(503, "The coordinator does not accept our certificate", "Check that this state directory is this federation's."),
    "tls_certificate_required": Code(503, "The coordinator got no certificate from us", "A proxy may strip it: exempt this host from inspection."),
    "tls_failed": Code(503, "TLS could not be set up", "Ask the network's administrator what stands between; see the detail."),
    "proxy_refused": Code(503, "A proxy refused", "Allow the coordinator's host and port at the proxy."),
    "coordinator_busy": Code(503, "The coordinator is busy", "Nothing is lost; it is tried again."),
    "coordinator_stop": Code(503, "The coordinator asked this agent to stop", "Read the reason, then start the agent again."),
    "clock_skew": Code(503, "The clocks differ by more than a minute", "Synchronise this machine's clock; rounds go on meanwhile."),
    "receipt_invalid": Code(502, "A receipt does not prove delivery", "Nothing is lost; keep the log if it repeats."),
    "upload_damaged": Code(500, "A sealed update is damaged on disk", "The round goes on without this site; check the disk."),
    "pairing_members": Code(400, "Asked to pair with unknown sites", "Nothing was made; the roster and the plan decide who is paired."),
    "pairing_mismatch": Code(400, "A bundle is not what it is handed out as", "Keep the log; the coordinator mixed up bundles."),
    "pairing_serial_used": Code(409, "A site's bundle was exchanged", "Keep the log; bundles only ever get higher serials."),
    "unmask_request_invalid": Code(400, "An unmask request does not fit together", "Nothing was released; the coordinator is at fault."),
    "outcome_invalid": Code(400, "An outcome does not follow the last one", "Nothing is trained on it; ask the coordinator's administrator."),
    "outcome_missing": Code(502, "Announced outcomes cannot be had", "It is tried again; ask the coordinator's administrator if it repeats."),
    "outcome_not_logged": Code(400, "An outcome is not in the log", "Nothing is trained on it; keep the evidence."),
    "model_differs": Code(400, "The published model is not the computed one", "Nothing is trained on it; keep the evidence and call the others."),
    "journal_broken": Code(500, "The site's own log does not verify", "Keep a copy of the state directory; find out who changed it."),
    "period_malformed": Code(400, "A period cannot be read", "Give a date such as 2026-11-01, a period such as 24h or 30d, or `all`."),
    "syslog_unreachable": Code(503, "The hospital's log server cannot be reached", "Nothing is lost: it gets the rest later. Check host, port and CA."),
    "syslog_files_unreadable": Code(400, "A file of the syslog connection cannot be read", "Name PEM files: the CA, and a certificate with its key."),
    "journal_head_malformed": Code(400, "A noted head cannot be read", "Give it as a report shows it: NUMBER:DIGEST."),
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
    "bench_failed": Code(500, "A benchmark could not be finished", "Look at what the process wrote; try again."),
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
# fmt: on


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
