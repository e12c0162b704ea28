"""Every cryptographic primitive Mitral uses, wrapped once: nothing outside this package imports `cryptography`.

The one exception is `shared/audit/verify.py`, which imports nothing of Mitral so that an auditor can carry it away.
Each module wraps one primitive and translates its failures to the stable codes of `shared.errors`:

- `secret`           bytes that never print themselves
- `identity`         Ed25519 keys: who signed
- `signed_envelope`  DSSE: every signed message (PROTOCOLS 1.2)
- `sealing`          hybrid HPKE: what only one site may read (PROTOCOLS A5)
- `message_box`      AES-256-GCM under a key and nonce the protocol prescribes (share blobs, PROTOCOLS A7)
- `derivation`, `keystream`   HKDF labels and the AES-256-CTR masks (PROTOCOLS 1.5, A8)
- `at_rest`          sealed columns and files, and the key that seals them (PROTOCOLS C5)
- `fingerprint`      what two people compare by telephone (PROTOCOLS A4)
- `x509`             the TLS authority and its certificates (PROTOCOLS C4)
"""
