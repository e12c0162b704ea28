"""R3 at the coordinator: the certified request, and the shares it gets back (PROTOCOLS A7)."""

from collections.abc import Mapping
from datetime import datetime

from coordinator.audit import AuditLog, Fact
from coordinator.blobs.uploads import Uploads
from coordinator.rounds.confirm_survivors import certificate
from coordinator.rounds.machine import is_accepted, next_state
from coordinator.rounds.masked_update import split_shares
from coordinator.sites import SitePrincipal
from coordinator.storage import rounds
from coordinator.storage.database import Transaction
from coordinator.storage.rounds import Round
from shared.canonical import b64u, from_b64u, hash_bytes, length_prefixed
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import KemPrivateKey, open_sealed
from shared.crypto.signed_envelope import SignedMessage, open_envelope
from shared.errors import InputError, Misuse, PeerFault, Refusal
from shared.protocol.unmask import SealedUnmaskResponse, UnmaskRequest, UnmaskResponse


def request(tx: Transaction, uploads: Uploads, round_: Round, site: str) -> UnmaskRequest:
    """Return what a site verifies before it releases anything.

    Raises:
        Refusal: ``round_closed`` while there is no certificate, or when the shares are gone.
    """
    if round_.state not in {"CERTIFIED", "UNMASKING"} or round_.stmt is None:
        raise Refusal("round_closed", f"the round is {round_.state}; no shares are asked for")
    ctx, ctx_hash = round_.ctx, round_.ctx_hash or ""
    received = rounds.read_uploads(tx, ctx_hash)
    blobs = {}
    for dealer in round_.stmt.U:
        shares = uploads.shares(ctx_hash, dealer)
        if shares is None:
            raise Misuse("upload_missing", f"the share blobs of {dealer} are not on disk any more")
        blobs[dealer] = b64u(split_shares(ctx, dealer, shares)[site])
    cert = certificate(rounds.read_decisions(tx, ctx_hash), ctx.t)
    return UnmaskRequest(
        stmt=round_.stmt,
        cert=[b64u(envelope) for envelope in cert.values()],
        ctx=ctx,
        manifests={dealer: b64u(received[dealer].envelope) for dealer in round_.stmt.U},
        shares=blobs,
    )


def seal_info(ctx_hash: str, site: str) -> bytes:
    """Return what a sealed response is bound to: ``"SA1 unmask" || 0x00 || ctx_hash || lp(site)``."""
    return b"SA1 unmask\x00" + hash_bytes(ctx_hash) + length_prefixed(site.encode("ascii"))


def open_response(
    kem: KemPrivateKey, sealed: SealedUnmaskResponse, ctx_hash: str, site: str, keys: Mapping[str, VerifyKey]
) -> SignedMessage:
    """Open and verify a sealed response.

    Raises:
        Refusal: ``site_mismatch``.
        PeerFault: ``envelope_unreadable``, ``signature_invalid``, ``message_malformed``.
    """
    if sealed.site != site or sealed.ctx_hash != ctx_hash:
        raise Refusal("site_mismatch", "the sealed response names another site or context than its path")
    message = open_envelope(open_sealed(kem, from_b64u(sealed.sealed), seal_info(ctx_hash, site)), "unmask", keys)
    if message.keyid != site or message.body.get("site") != site:
        raise Refusal("site_mismatch", f"the sealed response of {site} is signed by {message.keyid}")
    return message


def check_response(message: SignedMessage, round_: Round) -> UnmaskResponse:
    """Return a response that holds shares of b inside U and of s between U and the others, and nothing else.

    Raises:
        PeerFault: ``message_malformed``, ``unmask_mismatch``.
    """
    response = UnmaskResponse.check(message.body)
    survivors = set(round_.survivors)
    lost = set(round_.ctx.sites) - survivors
    if response.ctx_hash != round_.ctx_hash or response.stmt_hash != round_.stmt_hash:
        raise PeerFault("unmask_mismatch", f"{response.site} answered another request")
    excess = set(response.b) - survivors | set(response.s) - survivors
    if excess or any(set(seeds) - lost for seeds in response.s.values()):
        raise PeerFault("unmask_mismatch", f"{response.site} released shares nobody may have")
    for share in [*response.b.values(), *(share for seeds in response.s.values() for share in seeds.values())]:
        from_b64u(share, size=32)
    return response


def accept(
    tx: Transaction, log: AuditLog, principal: SitePrincipal, message: SignedMessage,
    sealed: bytes, round_: Round, now: datetime,
) -> None:  # fmt: skip
    """Take a checked response. The shares stay sealed in a row that goes when the round ends; the log gets a hash.

    Raises:
        Refusal: ``round_closed``.
        InputError: ``statement_conflict`` for a second response of the same site.
    """
    site, ctx_hash = principal.site, round_.ctx_hash or ""
    if not is_accepted(round_.state, "unmask"):
        raise Refusal("round_closed", f"the round is {round_.state}; no shares are asked for")
    if site in rounds.read_responders(tx, ctx_hash):
        raise InputError("statement_conflict", f"{site} has already answered the unmask request of this context")
    # Once the sum is there nobody needs the shares any more, so they are not kept at all.
    is_needed = round_.state in {"CERTIFIED", "UNMASKING"}
    rounds.add_response(tx, ctx_hash, site, message.digest, sealed if is_needed else None)
    if is_needed:
        rounds.set_round(tx, round_.id, state=next_state(round_.state, "release"))
    tx.touch("operators", f"study/{round_.study}")
    data = {"ctx_hash": ctx_hash, "stmt_hash": round_.stmt_hash, "site": site, "response": message.digest}
    fact = Fact("round.unmask", principal.actor, data, round_.study, ("round", ctx_hash))
    log.append_statement(tx, message, fact, now, evidence=False)
