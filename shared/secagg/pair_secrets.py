"""Every seed, key, commitment and share blob of SA1 (PROTOCOLS A6, A7, A8).

All functions take hashes as 32 raw bytes. Keys that seal shares come from the pair secret, never from a mask seed:
opening a seed must not open shares (A7, the key-separation rule; attack table row 11).

Share blob of dealer i for j: nonce (12) || AES-256-GCM(n shares of 32 bytes) || tag (16) || n share commitments of
32 bytes. The blob a site makes for itself has only the commitments; the shares stay in its database. Share 0 is of b_i,
the others of s_ik for k in P without i, ascending.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hmac import compare_digest

from shared.canonical import length_prefixed as lp
from shared.canonical import tagged_hash, u32
from shared.crypto.derivation import extract, kdf
from shared.crypto.message_box import NONCE_BYTES, TAG_BYTES, decrypt_share, encrypt_share
from shared.errors import Misuse, PeerFault
from shared.secagg.shamir import PRIME, RandomBytes, decode_element, encode_element, random_element, split


def in_order(i: str, k: str) -> tuple[str, str]:
    """Return the two ids as (lo, hi), bytewise."""
    return (i, k) if i.encode("ascii") < k.encode("ascii") else (k, i)


def mask_sign(i: str, k: str) -> int:
    """Return the sign with which site `i` adds the stream it shares with `k`: +1 if i < k, else -1."""
    return 1 if in_order(i, k)[0] == i else -1


def pairing_info(roster_hash: bytes, study: str, serial: int, i: str, j: str) -> bytes:
    """Return the HPKE info under which `i` seals its half of the pair secret to `j` (A6)."""
    return b"SA1 env\x00" + roster_hash + lp(_id(study)) + u32(serial) + lp(_id(i)) + lp(_id(j))


def pair_secret(pairing_hash_lo: bytes, pairing_hash_hi: bytes, u_lo_hi: bytes, u_hi_lo: bytes) -> bytes:
    """Return PS of a pair from the two pairing hashes and the two halves, lower id first (A6)."""
    return extract(tagged_hash("SA1 pair", pairing_hash_lo, pairing_hash_hi), u_lo_hi + u_hi_lo)


def new_self_secret(random: RandomBytes) -> bytes:
    """Draw b_i: uniform in the field, 32 bytes; fresh for every context."""
    return encode_element(random_element(random))


def mask_seed(pair: bytes, ctx_hash: bytes) -> bytes:
    """Return ``s_ik``, this round's seed of the pair secret `pair`, as a field element of 32 bytes."""
    return encode_element(int.from_bytes(kdf(pair, "mask", ctx_hash), "big") % PRIME)


def stream_key(seed: bytes, ctx_hash: bytes, lo: str, hi: str) -> bytes:
    """Return the keystream key of the pair's mask.

    Raises:
        PeerFault: ``share_malformed`` for a seed that is not a field element.
    """
    decode_element(seed)
    return kdf(seed, "stream", ctx_hash, _id(lo), _id(hi))


def self_key(self_secret: bytes, ctx_hash: bytes, i: str) -> bytes:
    """Return the keystream key of site `i`'s self mask.

    Raises:
        PeerFault: ``share_malformed`` for a secret that is not a field element.
    """
    decode_element(self_secret)
    return kdf(self_secret, "self", ctx_hash, _id(i))


def share_key(pair: bytes, ctx_hash: bytes, i: str, j: str) -> bytes:
    """Return the key under which dealer `i` encrypts its shares for `j`; from the pair secret only."""
    return kdf(pair, "share", ctx_hash, _id(i), _id(j))


def checksum_key(ctx_hash: bytes, e: int) -> bytes:
    """Return the (public) keystream key of checksum word `e` (A9)."""
    return kdf(ctx_hash, "chk", u32(e))


def b_commit(ctx_hash: bytes, i: str, self_secret: bytes) -> bytes:
    """Return the commitment to b_i."""
    return tagged_hash("SA1 b-commit", ctx_hash, lp(_id(i)), self_secret)


def seed_commit(ctx_hash: bytes, i: str, k: str, seed: bytes) -> bytes:
    """Return the commitment to s_ik; both ends publish the same value, whichever is named first."""
    lo, hi = in_order(i, k)
    return tagged_hash("SA1 seed-commit", ctx_hash, lp(_id(lo)), lp(_id(hi)), seed)


def share_commit(ctx_hash: bytes, i: str, j: str, index: int, share: bytes) -> bytes:
    """Return dealer `i`'s commitment to the `index`-th share for `j`."""
    return tagged_hash("SA1 share-commit", ctx_hash, lp(_id(i)), lp(_id(j)), u32(index), share)


@dataclass(frozen=True, slots=True)
class ShareBlobs:
    """What one dealer makes for one context: a blob per member of P, and the shares it keeps itself, in index order."""

    blobs: dict[str, bytes]
    own_shares: list[bytes] = field(repr=False)


def blob_size(n: int, *, own: bool) -> int:
    """Return the bytes of a share blob among `n` sites."""
    return 32 * n if own else NONCE_BYTES + 32 * n + TAG_BYTES + 32 * n


def secret_index(cohort: Sequence[str], dealer: str, peer: str | None) -> int:
    """Return where a dealer's share stands in its blobs: 0 for b_i (`peer` None), else the place of s_(dealer,peer)."""
    return 0 if peer is None else 1 + [site for site in cohort if site != dealer].index(peer)


def make_share_blobs(
    ctx_hash: bytes,
    dealer: str,
    cohort: Sequence[str],
    t: int,
    *,
    self_secret: bytes,
    seeds: Mapping[str, bytes],
    pairs: Mapping[str, bytes],
    random: RandomBytes,
) -> ShareBlobs:
    """Share b_i and every s_ik among `cohort` (P, ascending; x = 1-based position) and seal each site's part to it.

    `seeds` and `pairs` hold s_ik and PS_ik for every other member k. From `random` come the coefficients of each
    secret in index order, then 12 bytes of nonce per recipient in the order of P.

    Raises:
        Misuse: ``share_malformed`` when seeds or pairs are not exactly those of the others.
    """
    others = [site for site in cohort if site != dealer]
    if len(others) + 1 != len(cohort) or set(seeds) != set(others) or set(pairs) != set(others):
        raise Misuse("share_malformed", "a dealer shares one seed with each of the others in its cohort")
    secrets = [self_secret, *(seeds[peer] for peer in others)]
    per_secret = [split(decode_element(secret), t, len(cohort), random) for secret in secrets]
    commitment = b_commit(ctx_hash, dealer, self_secret)
    blobs: dict[str, bytes] = {}
    own: list[bytes] = []
    for position, recipient in enumerate(cohort):
        shares = [shares_of_secret[position] for shares_of_secret in per_secret]
        commitments = b"".join(_commitments(ctx_hash, dealer, recipient, shares))
        if recipient == dealer:
            own, blobs[recipient] = shares, commitments
        else:
            key = share_key(pairs[recipient], ctx_hash, dealer, recipient)
            nonce = random(NONCE_BYTES)
            aad = _binding(ctx_hash, commitment, dealer, recipient)
            blobs[recipient] = nonce + encrypt_share(key, nonce, b"".join(shares), aad) + commitments
    return ShareBlobs(blobs, own)


def open_share_blob(
    ctx_hash: bytes, dealer: str, recipient: str, blob: bytes, *, n: int, commitment: bytes, pair: bytes
) -> list[bytes]:
    """Return the n shares in `dealer`'s blob for `recipient`, every one checked against its commitment.

    `commitment` is the dealer's b_commit of the same manifest: a blob of another upload does not open.

    Raises:
        PeerFault: ``share_malformed`` (length or field element), ``share_unreadable``, ``share_commitment``.
    """
    commitments = blob_commitments(blob, n, own=False)
    key = share_key(pair, ctx_hash, dealer, recipient)
    sealed = blob[NONCE_BYTES : -32 * n]
    plaintext = decrypt_share(key, blob[:NONCE_BYTES], sealed, _binding(ctx_hash, commitment, dealer, recipient))
    shares = _elements(plaintext)
    for share in shares:
        decode_element(share)
    for index, made in enumerate(_commitments(ctx_hash, dealer, recipient, shares)):
        if not compare_digest(made, commitments[index]):
            raise PeerFault("share_commitment", f"share {index} of {dealer} for {recipient} is not the committed one")
    return shares


def blob_commitments(blob: bytes, n: int, *, own: bool) -> list[bytes]:
    """Return the n share commitments at the end of a blob, which everybody may read.

    Raises:
        PeerFault: ``share_malformed`` for another length.
    """
    if len(blob) != blob_size(n, own=own):
        raise PeerFault("share_malformed", f"a share blob of {n} sites has {blob_size(n, own=own)} bytes")
    return _elements(blob[-32 * n :])


def _commitments(ctx_hash: bytes, dealer: str, recipient: str, shares: Sequence[bytes]) -> list[bytes]:
    return [share_commit(ctx_hash, dealer, recipient, index, share) for index, share in enumerate(shares)]


def _binding(ctx_hash: bytes, commitment: bytes, dealer: str, recipient: str) -> bytes:
    names = lp(dealer.encode("ascii")) + lp(recipient.encode("ascii"))
    return ctx_hash + commitment + names


def _elements(raw: bytes) -> list[bytes]:
    return [raw[start : start + 32] for start in range(0, len(raw), 32)]


def _id(name: str) -> bytes:
    return name.encode("ascii")
