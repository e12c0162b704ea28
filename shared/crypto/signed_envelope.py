"""DSSE envelopes: every signed protocol message (PROTOCOLS 1.2).

The signed bytes are the pre-authentication encoding ``"DSSEv1" SP len(type) SP type SP len(body) SP body``, so a
signature of one kind can never be taken for another. A verifier checks the signature over the received bytes and only
then parses them.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.canonical import JsonObject, canonical_bytes, parse_strict, sha256_hex
from shared.crypto.identity import SigningKey, VerifyKey
from shared.errors import Misuse, PeerFault

KINDS = frozenset(
    {
        "roster",
        "pairing",
        "manifest",
        "decision",
        "unmask",
        "attestation",
        "complaint",
        "state.reset",
        "enrolment",
        "approval",
        "receipt",
        "refusal",
        "poll",
        "export",
        "erasure",
        "journal",
    }
)
MAX_ENVELOPE_BYTES = 8 * 2**20  # an unmask response at 200 sites with 60 dropped needs about 1 MiB
_KEYID = re.compile(r"[a-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class SignedMessage:
    """A message whose signature has been verified.

    `payload` is the signed byte string, `body` the same parsed strictly, `envelope` the whole envelope as received.
    """

    kind: str
    keyid: str
    payload: bytes
    body: JsonObject
    envelope: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """Return the hex SHA-256 of the signed payload: ``manifest_hash``, ``pairing_hash`` and the next ``prev``."""
        return sha256_hex(self.payload)

    @property
    def envelope_digest(self) -> str:
        """Return the hex SHA-256 of the whole envelope: the name under which the log and its exports keep it."""
        return sha256_hex(self.envelope)


def payload_type(kind: str) -> str:
    """Return the DSSE payload type of a message kind.

    Raises:
        Misuse: ``envelope_kind`` for a kind the protocol does not have.
    """
    if kind not in KINDS:
        raise Misuse("envelope_kind", f"{kind!r} is not a message kind of SA1")
    return f"application/vnd.mitral.sa1.{kind}+json"


def pre_authentication_encoding(type_: str, body: bytes) -> bytes:
    """Return the bytes a DSSE signature covers."""
    name = type_.encode("ascii")
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(body), body)


def sign_envelope(kind: str, payload: JsonObject, keyid: str, key: SigningKey) -> bytes:
    """Return the envelope bytes of `payload` (made canonical), signed by `key` under the name `keyid`.

    Raises:
        Misuse: ``envelope_kind``, ``not_canonical``.
    """
    type_ = payload_type(kind)
    body = canonical_bytes(payload)
    signature = key.sign(pre_authentication_encoding(type_, body))
    return canonical_bytes(
        {
            "payload": base64.b64encode(body).decode("ascii"),
            "payloadType": type_,
            "signatures": [{"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}],
        }
    )


def open_envelope(raw: bytes, kind: str, keys: Mapping[str, VerifyKey]) -> SignedMessage:
    """Verify an envelope of `kind` against pinned `keys` (site id or ``coordinator`` -> key) and return its message.

    The key always comes from `keys`, never from the message. Exactly one signature is accepted; the second one that
    PROTOCOLS 1.1 reserves is not in use.

    Raises:
        PeerFault: ``envelope_malformed``, ``envelope_kind`` (another kind), ``signer_unknown``, ``signature_invalid``.
    """
    type_, body, keyid, signature = _split(raw)
    if type_ != payload_type(kind):
        raise PeerFault("envelope_kind", f"expected a signed {kind}, got payload type {type_[:100]!r}")
    key = keys.get(keyid)
    if key is None:
        raise PeerFault("signer_unknown", f"no pinned key for {keyid!r}")
    key.verify(signature, pre_authentication_encoding(type_, body))
    try:
        parsed = parse_strict(body)
    except PeerFault as error:
        raise PeerFault("envelope_malformed", f"the signed payload is not strict JSON: {error.detail}") from error
    return SignedMessage(kind, keyid, body, parsed, bytes(raw))


def peek_body(raw: bytes) -> JsonObject:
    """Return the payload of an envelope, **unverified**: good only to find out which key it names.

    Raises:
        PeerFault: ``envelope_malformed``, ``json_malformed``.
    """
    return parse_strict(_split(raw)[1])


def peek_signer(raw: bytes) -> str:
    """Return the key id an envelope claims, **unverified**: good only to choose which key to look up.

    Raises:
        PeerFault: ``envelope_malformed``.
    """
    return _split(raw)[2]


def _split(raw: bytes) -> tuple[str, bytes, str, bytes]:
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise PeerFault("envelope_malformed", f"the envelope has {len(raw)} bytes, the limit is {MAX_ENVELOPE_BYTES}")
    try:
        envelope = parse_strict(raw)
        canonical = canonical_bytes(envelope)
    except (PeerFault, Misuse) as error:
        raise PeerFault("envelope_malformed", f"the envelope is not strict JSON: {error.detail}") from error
    # One message has one envelope: other spellings of the same JSON would give it a second content hash.
    if canonical != raw:
        raise PeerFault("envelope_malformed", "the envelope is not canonical JSON")
    if set(envelope) != {"payload", "payloadType", "signatures"}:
        raise PeerFault("envelope_malformed", "an envelope has exactly payload, payloadType and signatures")
    type_, signatures = envelope["payloadType"], envelope["signatures"]
    if not isinstance(type_, str) or not type_.isascii():
        raise PeerFault("envelope_malformed", "payloadType is not ASCII text")
    if not isinstance(signatures, list) or len(signatures) != 1 or not isinstance(signatures[0], dict):
        raise PeerFault("envelope_malformed", "an envelope carries exactly one signature")
    signature = signatures[0]
    if set(signature) != {"keyid", "sig"}:
        raise PeerFault("envelope_malformed", "a signature has exactly keyid and sig")
    keyid = signature["keyid"]
    if not isinstance(keyid, str) or not _KEYID.fullmatch(keyid):
        raise PeerFault("envelope_malformed", "keyid is not an id")
    return type_, _standard_base64(envelope["payload"]), keyid, _standard_base64(signature["sig"])


def _standard_base64(text: object) -> bytes:
    """Decode padded standard base64 and refuse a second spelling of the same bytes."""
    if not isinstance(text, str):
        raise PeerFault("envelope_malformed", "a binary field is not text")
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PeerFault("envelope_malformed", "a field is not standard base64 with padding") from error
    if base64.b64encode(data).decode("ascii") != text:
        raise PeerFault("envelope_malformed", "a field is not canonical base64")
    return data
