"""The transparency log: what was done, in an order nobody can change afterwards (PROTOCOLS B).

- `merkle`          RFC 6962 tree: roots, inclusion and consistency proofs from stored subtrees
- `log_checkpoint`  C2SP signed notes: the log's head and the sites' cosignatures
- `entries`         the leaves: their form, their types, salted commitments of personal fields
- `proofs`          the bundle that shows one entry in the log
- `archive`         the export an auditor carries away
- `selection`       which entries go into a partial export
- `derived`         the entries as FHIR, DICOM syslog, CEF and CSV (`derived_fhir`, `derived_syslog`, `entry_view`)
- `verify`          the offline verifier: one file, standard library and `cryptography` only, imports nothing of Mitral
"""
