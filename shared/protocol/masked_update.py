"""R1, the upload: chunks, share blobs and the signed manifest (PROTOCOLS A7).

``PUT /v1/rounds/{ctx_hash}/uploads/{site}/{chunk}``   raw packed words
``PUT /v1/rounds/{ctx_hash}/shares/{site}``            the share blobs for all of P, in the order of P
``PUT /v1/rounds/{ctx_hash}/manifest/{site}``          last; the answer is the signed receipt
"""

from typing import Annotated, Literal

from pydantic import Field

from shared.protocol.wire import Hash, Id, SignedStatement, Timestamp, WireObject


class VectorDescription(WireObject):
    """Lengths and hashes of the packed vector: no clear metrics, ever (attack row 20)."""

    elems: Annotated[int, Field(ge=1, le=2**31 - 1)]
    b: Annotated[int, Field(ge=8, le=32)]
    chunk_elems: Annotated[int, Field(ge=16)]
    chunk_sha256: list[Hash]


class Manifest(SignedStatement):
    """Payload (kind ``manifest``); its digest is the ``manifest_hash``."""

    ctx_hash: Hash
    vec: VectorDescription
    b_commit: Hash
    x_commit: None
    seed_commit: dict[Id, Hash]
    shares: dict[Id, Hash]


class UploadRefusal(SignedStatement):
    """Payload (kind ``refusal``): the hospital's reasoned no to a context; it never fails the round for the others."""

    ctx_hash: Hash
    code: Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
    detail: Annotated[str, Field(max_length=500)]


class Receipt(WireObject):
    """Payload (kind ``receipt``), signed by the coordinator after the durable commit (PROTOCOLS B3, Omission)."""

    v: Literal["SA1"]
    kind: Literal["receipt"]
    accepted: Hash  # SHA-256 of the accepted signed payload
    leaf_hash: Hash
    log_index: Annotated[int, Field(ge=0)]
    time: Timestamp
