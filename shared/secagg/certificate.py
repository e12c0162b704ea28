"""The close certificate: t sites signed the same statement about who survived (PROTOCOLS A7 R2, R3; A12.1).

Two different certificates for one context would need an honest site to sign twice (C1: 2t > n + c), so whatever a site
releases for a certified survivor set, it releases for the only one there is.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from shared.canonical import JsonObject, canonical_bytes, hash_bytes, tagged_hash
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.signed_envelope import SignedMessage, open_envelope, sign_envelope
from shared.errors import Misuse, PeerFault

_STATEMENT_KEYS = {"v", "kind", "ctx", "U", "uploads"}


def uploads_hash(uploads: Iterable[tuple[str, str]]) -> str:
    """Return ``H("SA1 uploads", JCS([{site, manifest}...]))`` of (site id, manifest hash) pairs as hex."""
    listed = [{"site": site, "manifest": manifest} for site, manifest in sorted(uploads)]
    return tagged_hash("SA1 uploads", canonical_bytes(listed)).hex()


def statement(ctx_hash: str, survivors: Iterable[str], uploads: str) -> JsonObject:
    """Return the statement that closes a context over `survivors`; `uploads` is their `uploads_hash`.

    Raises:
        Misuse: ``certificate_statement`` for a survivor named twice.
    """
    listed = sorted(survivors)
    if len(set(listed)) != len(listed):
        raise Misuse("certificate_statement", "a survivor is named twice")
    return {"v": "SA1", "kind": "close", "ctx": ctx_hash, "U": listed, "uploads": uploads}


def statement_hash(stmt: JsonObject) -> str:
    """Return ``H("SA1 stmt", JCS(stmt))`` as hex."""
    return tagged_hash("SA1 stmt", canonical_bytes(stmt)).hex()


def sign_decision(stmt: JsonObject, site_id: str, seq: int, prev: str, key: SigningKey) -> bytes:
    """Return a site's decision envelope. The caller has made sure that it is the site's only one for this context."""
    return sign_envelope("decision", {"stmt": stmt, "site": site_id, "seq": seq, "prev": prev}, site_id, key)


def check_statement(stmt: JsonObject, ctx: JsonObject) -> None:
    """Check a statement against its context: U strictly ascending, a subset of P, at least m strong (A13 rows 5, 16).

    Raises:
        PeerFault: ``certificate_statement``.
    """
    _require(
        set(stmt) == _STATEMENT_KEYS and stmt["v"] == "SA1" and stmt["kind"] == "close", "it is no close statement"
    )
    _require(stmt["ctx"] == tagged_hash("SA1 ctx", canonical_bytes(ctx)).hex(), "it is about another context")
    survivors = stmt["U"]
    _require(isinstance(survivors, list) and all(isinstance(site, str) for site in survivors), "U is no list of ids")
    ascending = all(one < two for one, two in pairwise(survivors))
    _require(ascending, "U is not strictly ascending")
    _require(set(survivors) <= set(invited(ctx)), "U names a site that was not invited")
    _require(len(survivors) >= ctx["m"], f"U has {len(survivors)} sites, the context asks for {ctx['m']}")
    hash_bytes(stmt["uploads"])


def check_decision(stmt: JsonObject, raw: bytes, ctx: JsonObject, keys: Mapping[str, VerifyKey]) -> SignedMessage:
    """Verify one decision: signed by an invited site under its pinned key, over exactly this statement.

    Raises:
        PeerFault: ``certificate_forged`` (envelope or signature), ``certificate_signer`` (not in P, or another's name),
            ``certificate_statement`` (another statement).
    """
    try:
        message = open_envelope(raw, "decision", keys)
    except PeerFault as error:
        raise PeerFault("certificate_forged", f"a decision does not verify: {error.detail}") from error
    body = message.body
    if message.keyid not in invited(ctx) or body.get("site") != message.keyid:
        raise PeerFault("certificate_signer", f"{message.keyid} was not invited, or signed in another's name")
    _require(set(body) >= {"stmt", "site", "seq", "prev"}, "a decision lacks a field")
    _require(canonical_bytes(body["stmt"]) == canonical_bytes(stmt), f"{message.keyid} signed another statement")
    return message


def check_certificate(
    stmt: JsonObject, certificate: Sequence[bytes], ctx: JsonObject, keys: Mapping[str, VerifyKey]
) -> list[SignedMessage]:
    """Verify that at least t distinct members of P signed exactly `stmt`; `keys` are the pinned roster's site keys.

    One bad or repeated decision spoils the whole certificate: an honest coordinator has no reason to send one.

    Raises:
        PeerFault: ``certificate_short``, ``certificate_signer`` (also for a repeated one), ``certificate_forged``,
            ``certificate_statement``, ``certificate_threshold`` when the context's t cannot make it unique.
    """
    check_statement(stmt, ctx)
    count = len(ctx["P"])
    if 2 * ctx["t"] <= count + ctx["c"] or ctx["t"] > count:
        raise PeerFault("certificate_threshold", f"t = {ctx['t']} does not make a certificate of {count} sites unique")
    if len(certificate) > count:
        raise PeerFault("certificate_signer", f"{len(certificate)} decisions of {count} sites")
    messages = [check_decision(stmt, raw, ctx, keys) for raw in certificate]
    signers = {message.keyid for message in messages}
    if len(signers) != len(messages):
        raise PeerFault("certificate_signer", "a site's decision is counted twice")
    if len(signers) < ctx["t"]:
        raise PeerFault("certificate_short", f"{len(signers)} of {ctx['t']} decisions")
    return messages


def invited(ctx: JsonObject) -> list[str]:
    """Return the ids in P, in order."""
    return [participant["site"] for participant in ctx["P"]]


def _require(holds: bool, detail: str) -> None:
    if not holds:
        raise PeerFault("certificate_statement", detail)
