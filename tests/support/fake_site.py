"""A scripted hospital: it does the real SA1 maths through `shared` and says exactly what a test wants, when it wants.

It keeps its state in memory, refuses nothing and checks little: it is a tool to exercise the coordinator, not an agent.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.canonical import JsonObject, b64u, from_b64u, hash_bytes, length_prefixed, sha256_hex
from shared.clock import SystemClock, timestamp
from shared.crypto import x509
from shared.crypto.identity import SigningKey
from shared.crypto.sealing import KemPrivateKey, open_sealed, seal
from shared.crypto.signed_envelope import open_envelope, sign_envelope
from shared.errors import MitralError
from shared.protocol.enrolment import EnrolmentGranted, EnrolmentPending, EnrolmentRequest, Invitation, KemKeys
from shared.protocol.problems import error_from_problem
from shared.protocol.round_context import Context
from shared.protocol.study import Plan
from shared.protocol.unmask import UnmaskRequest
from shared.protocol.work import (
    BundlesCommand,
    CloseCommand,
    OpenCommand,
    PairingCommand,
    PollAnswer,
    RosterCommand,
    UnmaskCommand,
)
from shared.secagg import roster as rosters
from shared.secagg.layout import CHUNK_ELEMENTS, VectorLayout
from shared.secagg.masking import MaskingContext, mask_update
from shared.secagg.pair_secrets import (
    ShareBlobs,
    b_commit,
    make_share_blobs,
    mask_seed,
    new_self_secret,
    open_share_blob,
    pair_secret,
    pairing_info,
    seed_commit,
)
from shared.secagg.quantization import Quantizer, RandomBits
from shared.secagg.tail import CHECKSUM, TailItem

Answer = tuple[int, bytes]


class Transport(Protocol):
    """How requests reach the coordinator: in process, or over real TLS."""

    def request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], site: "FakeSite") -> Answer:
        """Return status and body."""
        ...


class ScriptedQuantizer(Quantizer):
    """Gives the words a test has chosen instead of quantising an update, so that the sum can be compared exactly."""

    def __init__(self, words: NDArray[np.int64]) -> None:
        super().__init__([(max(1, len(words)), 1.0)], weight=1, w_cap=1, q=16, random=RandomBits(bytes(32)))
        self.scripted = words
        self.clips = [(len(words), 1.0)] if len(words) else []

    def quantize(self, update: NDArray[np.float32], start: int, words: Any) -> None:
        words[:] = self.scripted[start : start + len(words)].astype(words.dtype)


@dataclass
class Sealed:
    """What the site keeps of an upload: the chunks, the manifest, and the shares it may be asked for."""

    ctx: Context
    chunks: list[bytes]
    shares: bytes
    manifest: bytes
    share_blobs: ShareBlobs
    self_secret: bytes
    seeds: dict[str, bytes]


@dataclass
class FakeSite:
    """One hospital."""

    name: str
    transport: Transport
    instance: str = "instance-1"
    previous: str = ""
    idk: SigningKey = field(default_factory=SigningKey.generate)
    log_key: SigningKey = field(default_factory=SigningKey.generate)
    kem: KemPrivateKey = field(default_factory=KemPrivateKey.generate)
    tls: x509.TlsKey = field(default_factory=x509.TlsKey.generate)
    seq: int = 0
    prev: str = "0" * 64
    chain: list[bytes] = field(default_factory=list)  # certificate, clients intermediate (DER)
    root: bytes = b""
    request_id: str = ""
    fingerprint: str = ""
    roster: JsonObject = field(default_factory=dict)
    serials: dict[str, int] = field(default_factory=dict)
    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)  # pairing hash -> peer -> u
    own_pairing: dict[str, list[str]] = field(default_factory=dict)  # study -> own pairing hashes, oldest first
    peers: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # their pairing hash -> (peer, u to me)
    sealed: dict[str, Sealed] = field(default_factory=dict)
    cursor: str = ""
    values: Callable[["FakeSite", Context], tuple[NDArray[np.int64], dict[str, list[int]]]] | None = None

    # --- the wire ----------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> bytes:
        """Return the body of a success, raise the coordinator's error otherwise."""
        status, raw = self.transport.request(method, path, body, headers or {}, self)
        if 200 <= status < 300:
            return raw
        error = error_from_problem(json.loads(raw)) if raw.startswith(b"{") else None
        raise error or AssertionError(f"{method} {path}: {status} {raw[:200]!r}")

    def sign(self, kind: str, payload: JsonObject, *, keep: bool = True) -> bytes:
        """Sign a statement as the next one of this site's chain."""
        body = {**payload, "site": self.name, "seq": self.seq + 1, "prev": self.prev}
        envelope = sign_envelope(kind, body, self.name, self.idk)
        if keep:
            self.seq += 1
            self.prev = open_envelope(envelope, kind, {self.name: self.idk.verify_key}).digest
        return envelope

    # --- set-up ------------------------------------------------------------------------------------------------------

    def enrolment_request(self, invitation: Invitation) -> EnrolmentRequest:
        """Return a complete request."""
        kem = self.kem.public_key
        request = EnrolmentRequest(
            token=invitation.token,
            csr=b64u(x509.make_csr(self.tls)),
            idk=b64u(self.idk.verify_key.bytes),
            log_key=b64u(self.log_key.verify_key.bytes),
            kem=KemKeys(mlkem768=b64u(kem.mlkem768), x25519=b64u(kem.x25519)),
            kem_seq=1,
            kem_attest=b64u(rosters.attest_kem(self.idk, kem, 1)),
            name=f"Hospital {self.name}",
            legal="",
            attest="",
        )
        attest = b64u(self.idk.sign(request.attested(invitation.pin)))
        return request.model_copy(update={"attest": attest})

    def enrol(self, invitation: Invitation) -> str:
        """Ask to join; return the fingerprint."""
        self.root = from_b64u(invitation.root)
        raw = self.call("POST", "/v1/enrol", self.enrolment_request(invitation).canonical())
        pending = EnrolmentPending.parse(raw)
        self.request_id, self.fingerprint = pending.request_id, pending.fingerprint
        return pending.fingerprint

    def fetch_certificate(self) -> bool:
        """Poll once for the certificate; return whether it is there."""
        poll = {
            "v": "SA1",
            "kind": "enrolment",
            "request_id": self.request_id,
            "at": timestamp(SystemClock().now()),
        }
        envelope = sign_envelope("enrolment", poll, self.name, self.idk)
        raw = self.call("GET", f"/v1/enrol/{self.request_id}", headers={"Authorization": f"DSSE {b64u(envelope)}"})
        if json.loads(raw)["state"] != "approved":
            return False
        self.chain = [from_b64u(der) for der in EnrolmentGranted.parse(raw).chain]
        return True

    def approve_roster(self, version: int) -> bytes:
        """Fetch a roster version and sign it."""
        self.roster = json.loads(self.call("GET", f"/v1/rosters/{version}"))["roster"]
        payload = {"v": "SA1", "kind": "roster", "roster": rosters.roster_hash(self.roster), "version": version}
        return self.call("PUT", f"/v1/rosters/{version}/approvals/{self.name}", self.sign("approval", payload))

    def approve_study(self, plan: Plan, decision: str = "approve") -> bytes:
        """Sign a study protocol."""
        payload = {"v": "SA1", "kind": "study", "study": plan.study, "plan": plan.plan_hash, "decision": decision}
        return self.call("PUT", f"/v1/studies/{plan.study}/approvals/{self.name}", self.sign("approval", payload))

    # --- the loop ----------------------------------------------------------------------------------------------------

    def poll(self, wait: float = 0, cursor: str | None = None) -> PollAnswer:
        """Poll once; the cursor is remembered."""
        given = self.cursor if cursor is None else cursor
        query = f"wait={wait}&cursor={given}&instance={self.instance}&previous={self.previous}"
        answer = PollAnswer.parse(self.call("GET", f"/v1/agent/poll?{query}"))
        self.cursor = answer.cursor
        return answer

    def work(  # noqa: C901 (one case per command)
        self, *, skip: Sequence[str] = (), wait: float = 0
    ) -> list[str]:
        """Poll with an empty cursor and do everything but the kinds in `skip`; return the kinds done."""
        done: list[str] = []
        for command in self.poll(wait, cursor="" if not wait else None).commands:
            if command.kind in skip:
                continue
            match command:
                case PairingCommand():
                    self.pair(command.study, command.serial, command.members)
                case BundlesCommand():
                    for reference in command.bundles:
                        self.read_bundle(command.study, reference.site, reference.pairing, reference.blob)
                case OpenCommand():
                    self.upload(command.ctx)
                case CloseCommand():
                    self.decide(command)
                case UnmaskCommand():
                    self.release(command.ctx_hash)
                case RosterCommand():
                    if not self.roster:
                        self.roster = json.loads(self.call("GET", f"/v1/rosters/{command.version}"))["roster"]
                case _:
                    continue
            done.append(command.kind)
        return done

    # --- pairing -----------------------------------------------------------------------------------------------------

    def pair(self, study: str, serial: int, members: Sequence[str]) -> bytes:
        """Make and send a pairing bundle for the other members."""
        roster_hash = rosters.roster_hash(self.roster)
        kems = rosters.kem_keys(self.roster)
        secrets = {peer: os.urandom(32) for peer in members if peer != self.name}
        env = {
            peer: b64u(seal(kems[peer], secret, pairing_info(hash_bytes(roster_hash), study, serial, self.name, peer)))
            for peer, secret in secrets.items()
        }
        payload = {
            "v": "SA1",
            "kind": "pairing",
            "study": study,
            "roster_hash": roster_hash,
            "serial": serial,
            "env": env,
        }
        envelope = self.sign("pairing", payload)
        self.secrets[self.prev] = secrets
        self.own_pairing.setdefault(study, []).append(self.prev)
        self.serials[study] = serial
        return self.call("PUT", f"/v1/studies/{study}/pairings/{self.name}", envelope)

    def read_bundle(self, study: str, peer: str, pairing_hash: str, blob: str) -> None:
        """Fetch a peer's bundle and open the part that is for this site."""
        if pairing_hash in self.peers:
            return
        raw = self.call("GET", f"/v1/blobs/{blob}")
        message = open_envelope(raw, "pairing", rosters.site_keys(self.roster))
        assert message.digest == pairing_hash
        if self.name not in message.body["env"]:
            return
        info = pairing_info(hash_bytes(message.body["roster_hash"]), study, message.body["serial"], peer, self.name)
        self.peers[pairing_hash] = (peer, open_sealed(self.kem, from_b64u(message.body["env"][self.name]), info))

    def pair_secrets(self, ctx: Context) -> dict[str, bytes]:
        """Return PS with every other invited site."""
        hashes = {one.site: one.pairing for one in ctx.P}
        own = hashes[self.name]
        found = {}
        for peer in ctx.sites:
            if peer == self.name:
                continue
            mine, theirs = self.secrets[own][peer], self.peers[hashes[peer]][1]
            first = self.name < peer
            lo, hi = (own, hashes[peer]) if first else (hashes[peer], own)
            u_lo, u_hi = (mine, theirs) if first else (theirs, mine)
            found[peer] = pair_secret(hash_bytes(lo), hash_bytes(hi), u_lo, u_hi)
        return found

    # --- the round ---------------------------------------------------------------------------------------------------

    def seal_update(self, ctx: Context) -> Sealed:
        """Mask the scripted values for a context and sign the manifest; nothing is sent."""
        if ctx.ctx_hash in self.sealed:
            return self.sealed[ctx.ctx_hash]
        words, tail = self.values(self, ctx) if self.values else one_hot(self, ctx)
        layout = layout_of(ctx)
        pairs = self.pair_secrets(ctx)
        seeds = {peer: mask_seed(secret, ctx.digest) for peer, secret in pairs.items()}
        own = new_self_secret(os.urandom)
        chunks: list[bytes] = []
        vector = mask_update(
            MaskingContext(ctx.digest, self.name, ctx.sites, self_secret=own, seeds=seeds),
            layout,
            np.zeros(ctx.d, np.float32),
            ScriptedQuantizer(words),
            tail=tail,
            sink=lambda _, chunk: chunks.append(bytes(chunk)),
        )
        blobs = make_share_blobs(
            ctx.digest, self.name, ctx.sites, ctx.t, self_secret=own, seeds=seeds, pairs=pairs, random=os.urandom
        )
        payload = {
            "ctx_hash": ctx.ctx_hash,
            "vec": {
                "elems": vector.elements,
                "b": ctx.b,
                "chunk_elems": CHUNK_ELEMENTS,
                "chunk_sha256": list(vector.chunk_sha256),
            },
            "b_commit": b_commit(ctx.digest, self.name, own).hex(),
            "x_commit": None,
            "seed_commit": {peer: seed_commit(ctx.digest, self.name, peer, seed).hex() for peer, seed in seeds.items()},
            "shares": {peer: sha256_hex(blobs.blobs[peer]) for peer in ctx.sites},
        }
        shares = b"".join(blobs.blobs[peer] for peer in ctx.sites)
        sealed = Sealed(ctx, chunks, shares, self.sign("manifest", payload), blobs, own, seeds)
        self.sealed[ctx.ctx_hash] = sealed
        return sealed

    def upload(self, ctx: Context) -> bytes:
        """Send a whole masked update; return the answer to the manifest."""
        sealed = self.seal_update(ctx)
        for index in range(len(sealed.chunks)):
            self.put_chunk(ctx, index)
        self.put_shares(ctx)
        return self.put_manifest(ctx)

    def put_chunk(self, ctx: Context, index: int, body: bytes | None = None) -> bytes:
        """Send one chunk."""
        chunk = self.seal_update(ctx).chunks[index] if body is None else body
        return self.call("PUT", f"/v1/rounds/{ctx.ctx_hash}/uploads/{self.name}/{index}", chunk)

    def put_shares(self, ctx: Context, body: bytes | None = None) -> bytes:
        """Send the share blobs."""
        shares = self.seal_update(ctx).shares if body is None else body
        return self.call("PUT", f"/v1/rounds/{ctx.ctx_hash}/shares/{self.name}", shares)

    def put_manifest(self, ctx: Context, body: bytes | None = None) -> bytes:
        """Send the manifest."""
        manifest = self.seal_update(ctx).manifest if body is None else body
        return self.call("PUT", f"/v1/rounds/{ctx.ctx_hash}/manifest/{self.name}", manifest)

    def refuse(self, ctx: Context, code: str = "plan_not_approved") -> bytes:
        """Say no to a context."""
        payload = {"ctx_hash": ctx.ctx_hash, "code": code, "detail": "scripted"}
        return self.call("PUT", f"/v1/rounds/{ctx.ctx_hash}/refusal/{self.name}", self.sign("refusal", payload))

    def decide(self, command: CloseCommand) -> bytes:
        """Sign the proposed survivors."""
        envelope = self.sign("decision", {"stmt": command.stmt.as_json()})
        return self.call("PUT", f"/v1/rounds/{command.stmt.ctx}/decision/{self.name}", envelope)

    def unmask_request(self, ctx_hash: str) -> UnmaskRequest:
        """Fetch the unmask request."""
        return UnmaskRequest.parse(self.call("GET", f"/v1/rounds/{ctx_hash}/unmask-request/{self.name}"))

    def response(self, request: UnmaskRequest) -> JsonObject:
        """Return the payload of the response to a request: exactly the shares it entitles to."""
        ctx, survivors = request.ctx, request.stmt.U
        pairs = self.pair_secrets(ctx)
        lost = [site for site in ctx.sites if site not in survivors]
        b: dict[str, str] = {}
        s: dict[str, dict[str, str]] = {}
        for dealer in survivors:
            others = [site for site in ctx.sites if site != dealer]
            if dealer == self.name:
                shares = self.sealed[ctx.ctx_hash].share_blobs.own_shares
            else:
                manifest = json.loads(
                    open_envelope(
                        from_b64u(request.manifests[dealer]), "manifest", rosters.site_keys(self.roster)
                    ).payload
                )
                shares = open_share_blob(
                    ctx.digest,
                    dealer,
                    self.name,
                    from_b64u(request.shares[dealer]),
                    n=len(ctx.P),
                    commitment=hash_bytes(manifest["b_commit"]),
                    pair=pairs[dealer],
                )
            b[dealer] = b64u(shares[0])
            s[dealer] = {peer: b64u(shares[1 + others.index(peer)]) for peer in lost}
        return {"ctx_hash": ctx.ctx_hash, "stmt_hash": request.stmt.statement_hash, "b": b, "s": s}

    def release(self, ctx_hash: str, payload: JsonObject | None = None) -> bytes:
        """Fetch the unmask request and answer it (with `payload`, where a test wants to lie)."""
        answer = self.response(self.unmask_request(ctx_hash)) if payload is None else payload
        return self.put_unmask(ctx_hash, self.sign("unmask", answer))

    def put_unmask(self, ctx_hash: str, envelope: bytes) -> bytes:
        """Seal a signed response to the coordinator and send it."""
        info = b"SA1 unmask\x00" + hash_bytes(ctx_hash) + length_prefixed(self.name.encode())
        body = {
            "ctx_hash": ctx_hash,
            "site": self.name,
            "sealed": b64u(seal(rosters.coordinator_kem(self.roster), envelope, info)),
        }
        return self.call("PUT", f"/v1/rounds/{ctx_hash}/unmask/{self.name}", json.dumps(body).encode())

    def attest(self, study: str, round_number: int, ctx_hash: str, model: str) -> bytes:
        """Attest a model version."""
        payload = {"study": study, "round": round_number, "ctx_hash": ctx_hash, "model": model}
        return self.call("PUT", f"/v1/rounds/{ctx_hash}/attestation/{self.name}", self.sign("attestation", payload))

    def outcomes(self, study: str, after: int = 0) -> list[JsonObject]:
        """Fetch outcomes."""
        found: list[JsonObject] = json.loads(self.call("GET", f"/v1/studies/{study}/outcomes?after={after}"))[
            "outcomes"
        ]
        return found


def layout_of(ctx: Context) -> VectorLayout:
    """Return the layout of a context's vector."""
    return VectorLayout(
        ctx.d, tuple(TailItem(entry.name, entry.limbs, entry.length) for entry in ctx.tail), ctx.b, len(ctx.P)
    )


def one_hot(site: FakeSite, ctx: Context) -> tuple[NDArray[np.int64], dict[str, list[int]]]:
    """Return words that say who was counted: 1 at the site's place in the plan, and small counts in the tail."""
    words = np.zeros(ctx.d, np.int64)
    if ctx.d:
        words[(ord(site.name[-1]) - ord("a")) % ctx.d] = 1
    return words, tail_of(ctx)


def tail_of(ctx: Context, cases: int = 20) -> dict[str, list[int]]:
    """Return tail values that fit together: half the cases positive and scored well, the others badly."""
    tail: dict[str, list[int]] = {}
    for entry in ctx.tail:
        if entry.name == CHECKSUM:
            continue
        values = [0] * entry.length
        if entry.name in {"weight", "cases"}:
            values = [cases]
        elif entry.name == "n_sites":
            values = [1]
        elif entry.name in {"score_histogram", "test_histogram"}:
            bins = entry.length // 2
            values[bins - 1], values[bins] = cases // 2, cases // 2
        elif entry.name in {"loss", "correct"}:
            values = [cases // 2]
        elif entry.name in {"feature_sum", "feature_square_sum"}:
            values = [2**111 + (2**48 if entry.name == "feature_sum" else 5 * 2**48)] * entry.length
        elif entry.name == "feature_count":
            values = [2] * entry.length
        elif entry.name == "class_count":
            values = [cases // entry.length] * entry.length
        tail[entry.name] = values
    return tail


def code_of(call: Callable[[], object]) -> str:
    """Return the code of the error a call raises."""
    try:
        call()
    except MitralError as error:
        return error.code
    raise AssertionError("it did not raise")
