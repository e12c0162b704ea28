"""R3 at the site: verify the certified request, then release exactly the shares it entitles to (PROTOCOLS A7, W4)."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from shared.canonical import JsonObject, b64u, from_b64u, hash_bytes, length_prefixed, sha256_hex
from shared.crypto.identity import VerifyKey
from shared.crypto.sealing import seal
from shared.crypto.signed_envelope import open_envelope
from shared.errors import PeerFault, Refusal
from shared.protocol.masked_update import Manifest
from shared.protocol.unmask import SealedUnmaskResponse, UnmaskRequest
from shared.protocol.work import UnmaskCommand
from shared.secagg.certificate import check_certificate, uploads_hash
from shared.secagg.pair_secrets import open_share_blob, secret_index
from shared.secagg.roster import coordinator_kem, site_keys
from site_agent.rounds.job import erase_result
from site_agent.rounds.machine import Event, State, is_allowed
from site_agent.rounds.masked_update import bind
from site_agent.rounds.pairing import pair_secrets
from site_agent.rounds.session import Session
from site_agent.signing import sign_and_queue
from site_agent.storage import rosters, rounds
from site_agent.storage.database import Transaction
from site_agent.storage.rosters import StoredRoster
from site_agent.storage.rounds import StoredRound


class VerifiedManifest(NamedTuple):
    """A survivor's manifest whose signature was checked, and its hash."""

    manifest: Manifest
    digest: str


Verified = dict[str, VerifiedManifest]


@dataclass(slots=True)
class Shares:
    """What is released, and what could not be opened: (dealer, code, blob hash)."""

    b: dict[str, str] = field(default_factory=dict, repr=False)
    s: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)
    complaints: list[tuple[str, str, str]] = field(default_factory=list)


def answer(session: Session, work: UnmaskCommand, now: datetime) -> None:
    """Fetch and verify the request of a context and release once; after that nothing changes any more.

    Raises:
        Refusal: the context may not be bound here, or is over.
        PeerFault: the request does not verify; nothing was persisted.
        Retry: the network failed.
    """
    with session.database.reading("read release") as tx:
        if rounds.read_release(tx, work.ctx_hash) is not None:
            return
    request = session.client.read_unmask_request(work.ctx_hash, session.site)
    if request.ctx.ctx_hash != work.ctx_hash:
        raise PeerFault("unmask_request_invalid", "the request is about another context")
    with session.database.reading("read roster") as tx:
        active, stored = rosters.read_active(tx), rounds.read_round(tx, work.ctx_hash)
    if active is None:
        raise Refusal("roster_not_active", "no roster is active here")
    manifests = check_request(request, session.site, site_keys(active.roster))
    if stored is None:
        bind(session, request.ctx, None, now)
    release(session, request, manifests, active, now)


def check_request(request: UnmaskRequest, site: str, keys: dict[str, VerifyKey]) -> Verified:
    """Verify everything in a request that this site did not make itself; all or nothing.

    Returns the survivors' manifests.

    Raises:
        PeerFault: ``certificate_*``, ``unmask_request_invalid``, ``signature_invalid`` and the like.
    """
    ctx, stmt, survivors = request.ctx, request.stmt, set(request.stmt.U)
    check_certificate(stmt.as_json(), [from_b64u(one) for one in request.cert], ctx.as_json(), keys)
    if set(request.manifests) != survivors or set(request.shares) != survivors:
        raise PeerFault("unmask_request_invalid", "manifests or share blobs are not exactly those of the survivors")
    manifests: Verified = {}
    for dealer in stmt.U:
        message = open_envelope(from_b64u(request.manifests[dealer]), "manifest", keys)
        manifest = Manifest.check(message.body)
        if (message.keyid, manifest.site, manifest.ctx_hash) != (dealer, dealer, ctx.ctx_hash):
            raise PeerFault("unmask_request_invalid", f"the manifest of {dealer} is another site's or context's")
        if sha256_hex(from_b64u(request.shares[dealer])) != manifest.shares.get(site):
            raise PeerFault("unmask_request_invalid", f"the share blob of {dealer} is not the one its manifest names")
        manifests[dealer] = VerifiedManifest(manifest, message.digest)
    if uploads_hash((dealer, verified.digest) for dealer, verified in manifests.items()) != stmt.uploads:
        raise PeerFault("unmask_request_invalid", "the manifests are not those that the survivors' statement names")
    return manifests


def release(session: Session, request: UnmaskRequest, manifests: Verified, active: StoredRoster, now: datetime) -> None:
    """Sign, seal to the coordinator and commit the one response of a context (W4); own shares are erased with it."""
    ctx, ctx_hash, site = request.ctx, request.ctx.ctx_hash, session.site
    with session.database.transaction("release") as tx:
        if rounds.read_release(tx, ctx_hash) is not None:
            return
        stored = rounds.read_round(tx, ctx_hash)
        if stored is None:
            raise Refusal("round_not_bound", f"context {ctx_hash} is not bound here")
        now_active = rosters.read_active(tx)
        if now_active is None or now_active.roster_hash != active.roster_hash:
            raise Refusal("roster_not_active", "another roster became active since the certificate was verified")
        check_may_release(tx, site, stored, active, request, manifests)
        shares = open_shares(tx, site, request, manifests)
        for about, code, blob_hash in shares.complaints:
            complaint: JsonObject = {
                "ctx_hash": ctx_hash, "pairing_hash": None, "about": about, "code": code, "blob_hash": blob_hash,
            }  # fmt: skip
            path = f"/v1/complaints/{site}/{{digest}}"
            sign_and_queue(
                tx, session.identity, "complaint", complaint, path=path, now=now, ctx_hash=ctx_hash, study=ctx.study
            )
        body: JsonObject = {
            "ctx_hash": ctx_hash,
            "stmt_hash": request.stmt.statement_hash,
            "b": shares.b,
            "s": shares.s,
        }
        kem = coordinator_kem(active.roster)
        signed = sign_and_queue(
            tx, session.identity, "unmask", body, now=now, ctx_hash=ctx_hash, study=ctx.study,
            path=f"/v1/rounds/{ctx_hash}/unmask/{site}",
            wrap=lambda envelope: SealedUnmaskResponse(
                ctx_hash=ctx_hash, site=site, sealed=b64u(seal(kem, envelope, sealing_info(ctx_hash, site)))
            ).canonical(),
        )  # fmt: skip
        rounds.add_release(tx, ctx_hash, request.stmt.statement_hash, signed.seq)
        rounds.erase_own_shares(tx, ctx_hash)
        session.move(tx, stored, Event.RELEASE)
        tx.after_commit.append(session.queued)
    session.desk.give_up(ctx.study, ctx_hash)
    erase_result(session.folder, ctx_hash)  # W6: an update that was not sealed by now never will be
    session.log.info("released", study=ctx.study, round=ctx.round, complaints=len(shares.complaints))


def check_may_release(
    tx: Transaction, site: str, stored: StoredRound, active: StoredRoster, request: UnmaskRequest, manifests: Verified
) -> None:
    """Check the request against what this site did itself for the context.

    Raises:
        Refusal: ``roster_not_active``, ``round_superseded``, ``round_wiped``, ``manifest_foreign``.
        PeerFault: ``decision_conflict`` when this site signed another statement.
    """
    if stored.ctx.roster != active.roster_hash:
        raise Refusal("roster_not_active", "the context is of another roster than the active one")
    if rounds.read_last_round(tx, stored.study, stored.kind) > stored.round:
        raise Refusal(
            "round_superseded", f"a later {stored.kind} round than {stored.round} was bound; nothing is released"
        )
    if stored.state == State.WIPED or not is_allowed(stored.state, Event.RELEASE):
        raise Refusal("round_wiped", f"round {stored.round} is over here; its secrets are gone")
    decided = rounds.read_decision(tx, stored.ctx_hash)
    if decided is not None and decided != request.stmt.statement_hash:
        raise PeerFault("decision_conflict", f"the certificate is for another statement than {decided}, signed here")
    if site in manifests:
        upload = rounds.read_upload(tx, stored.ctx_hash)
        if upload is None or upload.manifest_hash != manifests[site].digest:
            raise Refusal("manifest_foreign", "the request counts an upload of this site that it did not seal")


def open_shares(tx: Transaction, site: str, request: UnmaskRequest, manifests: Verified) -> Shares:
    """Return b-shares of U and s-shares between U and the others: never both kinds for one secret."""
    ctx, found = request.ctx, Shares()
    survivors = request.stmt.U
    lost = [peer for peer in ctx.sites if peer not in set(survivors)]
    pairs = pair_secrets(tx, site, ctx)
    own = rounds.read_upload(tx, ctx.ctx_hash)
    for dealer in survivors:
        if dealer == site:
            shares = [] if own is None else own.own_shares
        else:
            blob = from_b64u(request.shares[dealer])
            try:
                shares = open_share_blob(
                    ctx.digest, dealer, site, blob, n=len(ctx.P), pair=pairs[dealer],
                    commitment=hash_bytes(manifests[dealer].manifest.b_commit),
                )  # fmt: skip
            except PeerFault as fault:
                found.complaints.append((dealer, fault.code, sha256_hex(blob)))
                continue
        if shares:
            found.b[dealer] = b64u(shares[0])
            found.s[dealer] = {peer: b64u(shares[secret_index(ctx.sites, dealer, peer)]) for peer in lost}
    return found


def sealing_info(ctx_hash: str, site: str) -> bytes:
    """Return what a sealed response is bound to (`shared.protocol.unmask.SealedUnmaskResponse`)."""
    return b"SA1 unmask\x00" + hash_bytes(ctx_hash) + length_prefixed(site.encode("ascii"))
