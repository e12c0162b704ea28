"""The only way this site signs: number, predecessor, signature and outbox in one transaction (PROTOCOLS 1.6, A10)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from shared.canonical import JsonObject, canonical_bytes, sha256_hex
from shared.clock import timestamp
from shared.crypto.signed_envelope import sign_envelope
from site_agent.identity import SiteIdentity
from site_agent.storage.database import Transaction
from site_agent.storage.outbox import add_item
from site_agent.storage.signed_messages import ChainEnd, add_message, read_end


@dataclass(frozen=True, slots=True)
class Signed:
    """A message that is signed and will be sent: its number and the digest of its payload."""

    seq: int
    digest: str
    envelope: bytes = field(repr=False)


def sign_and_queue(
    tx: Transaction,
    identity: SiteIdentity,
    kind: str,
    body: JsonObject,
    *,
    path: str,
    now: datetime,
    ctx_hash: str | None = None,
    study: str | None = None,
    wrap: Callable[[bytes], bytes] | None = None,
    follows: ChainEnd | None = None,
) -> Signed:
    """Sign `body` as this site's next message and queue it; nothing happens if `tx` is rolled back.

    ``site``, ``seq`` and ``prev`` are added here. ``{digest}`` in `path` stands for the payload's digest. `wrap` turns
    the envelope into the body that is sent (an unmask response is sealed to the coordinator). `follows` is the message
    that this one continues, where that is not the newest one known here: a reset goes on behind what was forgotten.
    """
    end = follows or read_end(tx)
    seq = end.seq + 1
    payload = {**body, "site": identity.site, "seq": seq, "prev": end.digest}
    envelope = sign_envelope(kind, payload, identity.site, identity.idk)
    digest = sha256_hex(canonical_bytes(payload))
    subject = path.format(digest=digest)
    add_message(tx, seq, kind=kind, subject=subject, digest=digest, prev=end.digest, signed_at=timestamp(now))
    sent = envelope if wrap is None else wrap(envelope)
    add_item(tx, seq, kind=kind, path=subject, body=sent, ctx_hash=ctx_hash, study=study)
    return Signed(seq, digest, envelope)
