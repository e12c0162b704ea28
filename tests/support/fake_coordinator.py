"""A coordinator in memory that speaks the agent plane, honest unless a test scripts it otherwise.

It keeps every signed message it accepted and refuses a second one with other bytes, so that what it holds at the end is
what a site really let out. `transport` gives a site's client a connection that tests can cut before or after a request.
"""

import copy
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import numpy as np

from shared.audit.entries import Actor, build_entry
from shared.audit.log_checkpoint import ED25519, LogCheckpoint, LogVkey, sign_checkpoint
from shared.audit.merkle import leaf_hash, tree_root
from shared.audit.proofs import build_inclusion
from shared.canonical import JsonObject, b64u, from_b64u, hash_bytes, length_prefixed, sha256_hex
from shared.clock import timestamp
from shared.crypto.identity import SigningKey, VerifyKey
from shared.crypto.sealing import KemPrivateKey, open_sealed
from shared.crypto.signed_envelope import SignedMessage, open_envelope, peek_signer, sign_envelope
from shared.errors import InputError, MitralError, PeerFault, Refusal
from shared.ids import uuid7
from shared.model_state import flatten, from_bytes, layout_of, to_bytes, unflatten
from shared.protocol.confirm_survivors import Statement, UploadReference
from shared.protocol.masked_update import Receipt
from shared.protocol.outcome import Outcome, PublishedOutcome
from shared.protocol.problems import MEDIA_TYPE, problem_document
from shared.protocol.round_context import Context, Kind, Participant, clip_hash, dp_hash
from shared.protocol.state_reset import KeptAct, KeptMessage, LastAccepted
from shared.protocol.study import Plan
from shared.protocol.unmask import SealedUnmaskResponse, UnmaskRequest
from shared.protocol.vector_layout import Part, vector_layout
from shared.protocol.work import PollAnswer, cursor_of
from shared.secagg import certificate
from shared.secagg import roster as rosters
from shared.secagg.layout import VectorLayout
from shared.secagg.pair_secrets import blob_size
from shared.secagg.parameters import least_survivors, threshold
from shared.secagg.shamir import encode_element, reconstruct
from shared.secagg.tail import TailItem, limb_bits
from shared.secagg.unmasking import MaskedSum, unmask
from shared.strategies.strategy import apply_aggregate

ORIGIN = "alpha/log/1"
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)


@dataclass
class FakeRound:
    """A context and what arrived for it."""

    ctx: Context
    state: str = "OPEN"
    chunks: dict[str, dict[int, bytes]] = field(default_factory=dict)
    shares: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, SignedMessage] = field(default_factory=dict)
    refusals: dict[str, str] = field(default_factory=dict)
    decisions: dict[str, SignedMessage] = field(default_factory=dict)
    responses: dict[str, SignedMessage] = field(default_factory=dict)
    stmt: Statement | None = None

    @property
    def layout(self) -> VectorLayout:
        ctx = self.ctx
        return VectorLayout(ctx.d, tuple(TailItem(e.name, e.limbs, e.length) for e in ctx.tail), ctx.b, len(ctx.P))


@dataclass
class FakeStudy:
    """A study, its bundles and its chain."""

    plan: Plan
    state: str = "running"
    model: str = ""
    approvals: dict[str, SignedMessage] = field(default_factory=dict)
    bundles: dict[str, SignedMessage] = field(default_factory=dict)
    outcomes: list[PublishedOutcome] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    pairing_serial: int = 1


Script = Callable[[str, str, str], httpx.Response | None]


class FakeCoordinator:
    """The whole agent plane for a handful of sites."""

    def __init__(self, federation: str = "alpha") -> None:
        self.federation = federation
        self.idk = SigningKey.generate()
        self.log_key = SigningKey.generate()
        self.kem = KemPrivateKey.generate()
        self.now = START
        self.keys: dict[str, VerifyKey] = {}
        self.leaves: list[bytes] = []
        self.blobs: dict[str, bytes] = {}
        self.rosters: dict[int, JsonObject] = {}
        self.roster_approvals: dict[int, dict[str, SignedMessage]] = {}
        self.studies: dict[str, FakeStudy] = {}
        self.rounds: dict[str, FakeRound] = {}
        self.accepted: dict[str, bytes] = {}  # path -> body: what stands
        self.messages: dict[str, list[SignedMessage]] = {}  # site -> in order of arrival
        self.receipts: dict[str, JsonObject] = {}
        self.conflicts: list[str] = []
        self.attestations: dict[str, dict[str, SignedMessage]] = {}
        self.complaints: list[JsonObject] = []
        self.instances: dict[str, str] = {}
        self.requests: list[tuple[str, str, str]] = []
        self.alive: set[str] = set()  # sites whose lease is held by a process that is at work
        self.action = "work"
        self.script: Script | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "FakeCoordinator":
        other = FakeCoordinator.__new__(FakeCoordinator)
        shared = {"idk", "log_key", "kem", "keys", "script"}
        for name, value in self.__dict__.items():
            setattr(other, name, value if name in shared else copy.deepcopy(value, memo))
        return other

    @property
    def vkey(self) -> LogVkey:
        return LogVkey(ORIGIN, ED25519, self.log_key.verify_key)

    # --- what a test does on this side --------------------------------------------------------------------------------

    def put_blob(self, raw: bytes) -> str:
        self.blobs[sha256_hex(raw)] = raw
        return sha256_hex(raw)

    def propose_roster(self, entries: list[JsonObject], c: int | None = None) -> JsonObject:
        version = len(self.rosters) + 1
        prev = rosters.roster_hash(self.rosters[version - 1]) if version > 1 else None
        coordinator = rosters.coordinator_entry(self.idk.verify_key, self.vkey.encode(), self.kem.public_key)
        roster = rosters.build_roster(
            self.federation, version, prev, sites=entries, coordinator=coordinator, not_after=date(2030, 1, 1), c=c
        )
        self.rosters[version] = roster
        self.roster_approvals[version] = {}
        return roster

    @property
    def roster(self) -> JsonObject:
        return self.rosters[len(self.rosters)]

    def submit(self, plan: Plan, model: bytes) -> None:
        assert self.put_blob(model) == plan.initial_model
        assert self.put_blob(plan.canonical()) == plan.plan_hash
        self.studies[plan.study] = FakeStudy(plan, model=plan.initial_model)

    def open_round(
        self, study: str, kind: Kind = "update", score: Part | None = "validation", sites: list[str] | None = None,
        **changes: Any,
    ) -> Context:  # fmt: skip
        """Freeze a context over `sites` (default: all with a bundle); `changes` are a malicious coordinator's."""
        found = self.studies[study]
        plan, invited = found.plan, sorted(found.bundles) if sites is None else sites
        number = found.numbers.get(kind, 0) + 1
        layout = vector_layout(plan, kind, len(invited), None if kind == "statistics" else score)
        c = int(self.roster["c"])
        t = threshold(len(invited), c)
        value = Context(
            v="SA1", kind=kind, group=0, study=study, roster=rosters.roster_hash(self.roster), round=number,
            model=found.model, plan=plan.plan_hash,
            prev=found.outcomes[-1].outcome.outcome_hash if found.outcomes else None,
            P=[Participant(site=site, pairing=found.bundles[site].digest) for site in invited],
            t=t, c=c, m=plan.secure_aggregation.least_survivors or least_survivors(len(invited), t),
            d=layout.d, tail=layout.tail, b=layout.b, q=layout.q, w_cap=plan.secure_aggregation.w_cap,
            clip=clip_hash(plan.secure_aggregation.clip), dp=dp_hash(plan.dp),
            expires=timestamp(self.now + timedelta(seconds=plan.deadlines.expire_seconds)),
        ).as_json()  # fmt: skip
        ctx = Context.check({**value, **changes})
        found.numbers[kind] = ctx.round
        self.rounds[ctx.ctx_hash] = FakeRound(ctx)
        return ctx

    def close(self, ctx: Context, survivors: list[str] | None = None) -> Statement:
        """Propose who survived; by default everybody whose manifest is here."""
        round_ = self.rounds[ctx.ctx_hash]
        chosen = sorted(round_.manifests) if survivors is None else survivors
        pairs = [(site, round_.manifests[site].digest) for site in chosen]
        stmt = certificate.statement(ctx.ctx_hash, chosen, certificate.uploads_hash(pairs))
        round_.stmt, round_.state = Statement.check(stmt), "CLOSING"
        return round_.stmt

    def certify(self, ctx: Context) -> None:
        round_ = self.rounds[ctx.ctx_hash]
        assert len(round_.decisions) >= ctx.t, "too few decisions"
        round_.state = "UNMASKING"

    def end(self, ctx: Context, state: str) -> None:
        self.rounds[ctx.ctx_hash].state = state

    def certificate(self, ctx: Context) -> list[str]:
        return [b64u(message.envelope) for _, message in sorted(self.rounds[ctx.ctx_hash].decisions.items())[: ctx.t]]

    def unmask_request(self, ctx: Context, site: str) -> UnmaskRequest:
        round_ = self.rounds[ctx.ctx_hash]
        assert round_.stmt is not None
        return UnmaskRequest(
            stmt=round_.stmt,
            cert=self.certificate(ctx),
            ctx=ctx,
            manifests={dealer: b64u(round_.manifests[dealer].envelope) for dealer in round_.stmt.U},
            shares={dealer: b64u(self.share_blob(ctx, dealer, site)) for dealer in round_.stmt.U},
        )

    def share_blob(self, ctx: Context, dealer: str, recipient: str) -> bytes:
        raw, start = self.rounds[ctx.ctx_hash].shares[dealer], 0
        for site in ctx.sites:
            size = blob_size(len(ctx.P), own=site == dealer)
            if site == recipient:
                return raw[start : start + size]
            start += size
        raise KeyError(recipient)

    def aggregate(self, ctx: Context) -> tuple[bytes, dict[str, list[int]]]:
        """Take the masks off with the released shares; return the aggregate's bytes and the tail's values."""
        round_ = self.rounds[ctx.ctx_hash]
        assert round_.stmt is not None
        survivors, position = round_.stmt.U, {site: x for x, site in enumerate(ctx.sites, 1)}
        lost = [site for site in ctx.sites if site not in survivors]
        responses = {site: message.body for site, message in round_.responses.items()}

        def secret(*keys: str) -> bytes:
            shares = {}
            for site, body in responses.items():
                found: Any = body
                for key in keys:
                    found = None if found is None else found.get(key)
                if found is not None:  # an entry is left out where a dealer's blob did not open
                    shares[position[site]] = from_b64u(found)
            return encode_element(reconstruct(shares, ctx.t))

        parts: list[bytes] = []
        tail = unmask(
            MaskedSum(
                ctx_hash=ctx.digest,
                layout=round_.layout,
                cohort=ctx.sites,
                survivors=survivors,
                chunk_sha256={s: round_.manifests[s].body["vec"]["chunk_sha256"] for s in survivors},
                self_secrets={i: secret("b", i) for i in survivors},
                pair_seeds={(i, k): secret("s", i, k) for i in survivors for k in lost},
            ),
            lambda site, index: round_.chunks[site][index],
            lambda _index, words: parts.append(words.astype("<i4").tobytes()),
        )
        words = _tail_words(round_.layout, tail)
        return b"".join(parts) + words, tail

    def publish(self, ctx: Context, **changes: Any) -> PublishedOutcome:
        """Aggregate, step, log and publish; `changes` replace fields of the outcome, a liar's."""
        round_, study = self.rounds[ctx.ctx_hash], self.studies[ctx.study]
        assert round_.stmt is not None
        raw, tail = self.aggregate(ctx)
        model = study.model
        if ctx.kind == "update":
            state = from_bytes(self.blobs[ctx.model])
            layout = layout_of(state)
            words = np.frombuffer(raw, "<i4", ctx.d)
            moved = apply_aggregate(study.plan, layout, flatten(layout, state), words, tail["weight"][0])
            model = self.put_blob(to_bytes(unflatten(layout, moved)))
        fields = {
            "ctx_hash": ctx.ctx_hash,
            "U": round_.stmt.U,
            "aggregate_sha256": self.put_blob(raw),
            "model_sha256": model,
        }
        outcome = Outcome.check({**fields, **changes})
        published = self.log_outcome(ctx, outcome)
        study.model = outcome.model_sha256
        round_.state = "PUBLISHED"
        return published

    def log_outcome(self, ctx: Context, outcome: Outcome) -> PublishedOutcome:
        study = self.studies[ctx.study]
        index = self.append(
            "round.result", ctx.study, {"ctx_hash": ctx.ctx_hash, "stmt_hash": "0" * 64, "outcome": outcome.as_json()}
        )
        published = PublishedOutcome(
            index=len(study.outcomes) + 1, ctx=ctx, outcome=outcome, inclusion=self.inclusion(index), attestations={}
        )
        study.outcomes.append(published)
        return published

    def append(self, type_: str, study: str | None, data: JsonObject) -> int:
        leaf = build_entry(
            log=ORIGIN, entry_id=uuid7(int(self.now.timestamp() * 1000)), ts=timestamp(self.now), type_=type_,
            actor=Actor("coordinator", "coordinator", "local"), data=data, study=study,
        )  # fmt: skip
        self.leaves.append(leaf)
        return len(self.leaves) - 1

    def inclusion(self, index: int) -> JsonObject:
        hashes = [leaf_hash(leaf) for leaf in self.leaves]
        note = sign_checkpoint(LogCheckpoint(ORIGIN, len(hashes), tree_root(hashes)), self.log_key)
        return build_inclusion(
            self.leaves[index], index, note, lambda level, at: tree_root(hashes[at << level : (at + 1) << level])
        )

    # --- the wire ---------------------------------------------------------------------------------------------------

    def transport(
        self, site: str, before: Callable[[str], None] | None = None, after: Callable[[str], None] | None = None
    ) -> httpx.BaseTransport:
        return _Transport(self, site, before or _nothing, after or _nothing)

    def handle(self, site: str, request: httpx.Request) -> httpx.Response:
        method, path = request.method, request.url.path
        self.requests.append((site, method, path))
        if self.script is not None and (scripted := self.script(site, method, path)) is not None:
            return scripted
        try:
            for pattern, route in self._routes():
                match = re.fullmatch(pattern, f"{method} {path}")
                if match:
                    return route(site, request, *match.groups())
            raise InputError("round_unknown", f"no route {method} {path}")
        except MitralError as error:
            return problem(error)

    def commands(self, site: str) -> list[JsonObject]:
        """Derive what a site has to do from the state, as the real coordinator does."""
        found: list[JsonObject] = []
        if self.rosters:
            version = len(self.rosters)
            approved = sorted(self.roster_approvals[version])
            found.append(
                {
                    "kind": "roster",
                    "version": version,
                    "roster": rosters.roster_hash(self.roster),
                    "approved_by": approved,
                }
            )
        for name, study in self.studies.items():
            count = len(study.outcomes)
            found.append(
                {"kind": "study", "study": name, "plan": study.plan.plan_hash, "state": study.state, "outcomes": count}
            )
            if site not in study.approvals:
                continue
            members = sorted(study.approvals)
            own = study.bundles.get(site)
            if own is None or own.body["serial"] < study.pairing_serial or set(members) - {site} - set(own.body["env"]):
                serial = max(study.pairing_serial, 1 + (own.body["serial"] if own else 0))
                found.append({"kind": "pairing", "study": name, "serial": serial, "members": members})
            others = [
                {"site": other, "pairing": bundle.digest, "blob": sha256_hex(bundle.envelope)}
                for other, bundle in sorted(study.bundles.items())
                if other != site
            ]
            if others:
                found.append({"kind": "bundles", "study": name, "bundles": others})
        for ctx_hash, round_ in self.rounds.items():
            found += self._round_commands(site, ctx_hash, round_)
        return found

    def _round_commands(self, site: str, ctx_hash: str, round_: FakeRound) -> list[JsonObject]:
        ctx = round_.ctx
        if site not in ctx.sites:
            return []
        if round_.state == "OPEN" and site not in round_.manifests and site not in round_.refusals:
            until = timestamp(self.now + timedelta(seconds=60))
            return [{"kind": "open", "ctx": ctx.as_json(), "upload_until": until}]
        if round_.state in {"CLOSING", "UNMASKING"} and round_.stmt is not None:
            if round_.state == "CLOSING" and site not in round_.decisions:
                uploads = [
                    UploadReference(site=one, manifest=round_.manifests[one].digest).as_json() for one in round_.stmt.U
                ]
                return [{"kind": "close", "ctx": ctx.as_json(), "stmt": round_.stmt.as_json(), "uploads": uploads}]
            if round_.state == "UNMASKING" and site not in round_.responses:
                return [{"kind": "unmask", "study": ctx.study, "ctx_hash": ctx_hash}]
        if round_.state in {"ABANDONED", "LOST"}:
            return [
                {"kind": "ended", "study": ctx.study, "ctx_hash": ctx_hash, "state": round_.state, "reason": "test"}
            ]
        return []

    def _routes(self) -> list[tuple[str, Callable[..., httpx.Response]]]:
        ctx = r"([0-9a-f]{64})"
        name = r"([a-z0-9._-]+)"
        return [
            (r"GET /v1/agent/poll", self._poll),
            (rf"GET /v1/blobs/{ctx}", self._blob),
            (r"GET /v1/rosters/(\d+)", self._roster),
            (rf"GET /v1/studies/{name}/outcomes", self._outcomes),
            (rf"GET /v1/rounds/{ctx}/uploads/{name}", self._uploaded),
            (rf"GET /v1/rounds/{ctx}/unmask-request/{name}", self._unmask_request),
            (rf"PUT /v1/rounds/{ctx}/uploads/{name}/(\d+)", self._chunk),
            (rf"PUT /v1/rounds/{ctx}/shares/{name}", self._shares),
            (rf"PUT /v1/rounds/{ctx}/unmask/{name}", self._unmask),
            (rf"PUT /v1/rounds/{ctx}/(manifest|refusal|decision|attestation)/{name}", self._statement),
            (rf"PUT /v1/rosters/(\d+)/approvals/{name}", self._roster_approval),
            (rf"PUT /v1/studies/{name}/(approvals|pairings)/{name}", self._study_statement),
            (rf"PUT /v1/complaints/{name}/{ctx}", self._complaint),
            (rf"GET /v1/statements/{name}", self._last_accepted),
            (rf"PUT /v1/state-resets/{name}", self._state_reset),
        ]

    def _poll(self, site: str, request: httpx.Request) -> httpx.Response:
        query = request.url.params
        holder = self.instances.get(site)
        if holder is not None and holder not in {query["instance"], query["previous"]}:
            raise InputError("instance_conflict", f"another agent of {site} is live")
        self.instances[site] = query["instance"]
        commands = self.commands(site)
        answer: JsonObject = {
            "v": "SA1", "action": self.action, "sleep_seconds": 0, "reason": None, "cursor": "",
            "time": timestamp(self.now), "commands": commands,
        }  # fmt: skip
        parsed = PollAnswer.check(answer)
        return reply({**answer, "cursor": cursor_of(parsed.commands)})

    def _blob(self, _site: str, request: httpx.Request, digest: str) -> httpx.Response:
        if digest not in self.blobs:
            raise InputError("blob_unknown", digest)
        start = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if start:
            return httpx.Response(206, content=self.blobs[digest][int(start[1]) :])
        return httpx.Response(200, content=self.blobs[digest])

    def _roster(self, _site: str, _request: httpx.Request, version: str) -> httpx.Response:
        approvals = {s: b64u(m.envelope) for s, m in self.roster_approvals[int(version)].items()}
        return reply({"roster": self.rosters[int(version)], "approvals": approvals})

    def _outcomes(self, _site: str, request: httpx.Request, study: str) -> httpx.Response:
        after = int(request.url.params["after"])
        found = []
        for one in self.studies[study].outcomes[after : after + 50]:
            said = self.attestations.get(one.ctx.ctx_hash, {})
            found.append({**one.as_json(), "attestations": {s: b64u(m.envelope) for s, m in said.items()}})
        return reply({"outcomes": found})

    def _uploaded(self, _site: str, _request: httpx.Request, ctx_hash: str, site: str) -> httpx.Response:
        chunks = self.rounds[ctx_hash].chunks.get(site, {})
        return reply({"chunks": {str(index): sha256_hex(raw) for index, raw in chunks.items()}})

    def _unmask_request(self, _site: str, _request: httpx.Request, ctx_hash: str, site: str) -> httpx.Response:
        return reply(self.unmask_request(self.rounds[ctx_hash].ctx, site).as_json())

    def _chunk(self, site: str, request: httpx.Request, ctx_hash: str, _named: str, index: str) -> httpx.Response:
        round_ = self._open(ctx_hash)
        if site in round_.manifests:
            raise InputError("upload_conflict", "the manifest is here already")
        self._once(request)
        round_.chunks.setdefault(site, {})[int(index)] = request.content
        return reply({"sha256": sha256_hex(request.content)})

    def _shares(self, site: str, request: httpx.Request, ctx_hash: str, _named: str) -> httpx.Response:
        round_ = self._open(ctx_hash)
        if site in round_.manifests:
            raise InputError("upload_conflict", "the manifest is here already")
        self._once(request)
        round_.shares[site] = request.content
        return reply({})

    def _statement(self, site: str, request: httpx.Request, ctx_hash: str, kind: str, _named: str) -> httpx.Response:
        round_ = self.rounds[ctx_hash]
        message = self._open_message(site, request, kind)
        if message.digest in self.receipts:
            return reply(self.receipts[message.digest])
        if kind == "manifest":
            self._open(ctx_hash)
            wanted = message.body["vec"]["chunk_sha256"]
            have = round_.chunks.get(site, {})
            if site not in round_.shares or any(
                sha256_hex(have.get(index, b"")) != digest for index, digest in enumerate(wanted)
            ):
                raise PeerFault("upload_incomplete", "chunks or shares are missing")
            for other, theirs in round_.manifests.items():
                assert other == site or theirs.body["seed_commit"][site] == message.body["seed_commit"][other]
            round_.manifests[site] = message
        elif kind == "refusal":
            round_.refusals[site] = message.body["code"]
        elif kind == "decision":
            round_.decisions[site] = message
        else:
            self.attestations.setdefault(ctx_hash, {})[site] = message
        return self._receipt(request, site, message)

    def _unmask(self, site: str, request: httpx.Request, ctx_hash: str, _named: str) -> httpx.Response:
        sealed = SealedUnmaskResponse.parse(request.content)
        info = b"SA1 unmask\x00" + hash_bytes(ctx_hash) + length_prefixed(site.encode())
        envelope = open_sealed(self.kem, from_b64u(sealed.sealed), info)
        message = open_envelope(envelope, "unmask", self.keys)
        if message.digest in self.receipts:
            return reply(self.receipts[message.digest])
        self.rounds[ctx_hash].responses[site] = message
        return self._receipt(request, site, message)

    def _roster_approval(self, site: str, request: httpx.Request, version: str, _named: str) -> httpx.Response:
        message = self._open_message(site, request, "approval")
        self.roster_approvals[int(version)].setdefault(site, message)
        return self._receipt(request, site, message)

    def _study_statement(self, site: str, request: httpx.Request, study: str, what: str, _named: str) -> httpx.Response:
        message = self._open_message(site, request, what[:-1])
        if what == "approvals":
            decided = message.body["decision"] == "approve"
            self.studies[study].approvals.pop(site, None)
            if decided:
                self.studies[study].approvals[site] = message
            return self._receipt(request, site, message, once=False)
        self.put_blob(message.envelope)
        self.studies[study].bundles[site] = message
        return self._receipt(request, site, message, once=False)

    def _complaint(self, site: str, request: httpx.Request, _named: str, _digest: str) -> httpx.Response:
        message = self._open_message(site, request, "complaint")
        self.complaints.append(message.body)
        return self._receipt(request, site, message)

    def _last_accepted(self, site: str, request: httpx.Request, _named: str) -> httpx.Response:
        said = self.messages.get(site, [])
        kept = [message for message in said if message.kind != "unmask"]
        acts = []
        for message in kept:
            if message.kind in {"manifest", "decision"} and message.body["seq"] > int(request.url.params["after"]):
                ctx_hash = message.body.get("ctx_hash") or message.body["stmt"]["ctx"]
                acts.append(KeptAct(message=_kept(message), ctx=self.rounds[ctx_hash].ctx))
        last = LastAccepted(
            seq=said[-1].body["seq"] if said else 0,
            digest=said[-1].digest if said else "0" * 64,
            newest=_kept(kept[-1]) if kept else None,
            acts=acts,
        )
        return reply(last.as_json())

    def _state_reset(self, site: str, request: httpx.Request, _named: str) -> httpx.Response:
        message = self._open_message(site, request, "state.reset")
        if site in self.alive:
            raise InputError("instance_conflict", f"another agent of {site} is live")
        self.instances[site] = message.body["instance"]
        for study in self.studies.values():
            study.bundles.pop(site, None)
        return self._receipt(request, site, message, once=False)

    def _open_message(self, site: str, request: httpx.Request, kind: str) -> SignedMessage:
        if peek_signer(request.content) != site or f"/{site}" not in request.url.path:
            raise Refusal("site_mismatch", f"{site} sent {request.url.path}")
        return open_envelope(request.content, kind, self.keys)

    def _open(self, ctx_hash: str) -> FakeRound:
        round_ = self.rounds[ctx_hash]
        if round_.state != "OPEN":
            raise Refusal("round_closed", f"the round is {round_.state}")
        return round_

    def _once(self, request: httpx.Request) -> None:
        """The same bytes again are welcome, other bytes are a conflict that a test looks at."""
        known = self.accepted.setdefault(request.url.path, request.content)
        if known != request.content:
            self.conflicts.append(request.url.path)
            raise InputError("upload_conflict", f"other bytes for {request.url.path}")

    def _receipt(
        self, request: httpx.Request, site: str, message: SignedMessage, *, once: bool = True
    ) -> httpx.Response:
        if message.digest in self.receipts:
            return reply(self.receipts[message.digest])
        if once:
            self._once(request)
        self.messages.setdefault(site, []).append(message)
        index = self.append("log.heartbeat", None, {"message": message.digest})
        receipt = Receipt(
            v="SA1", kind="receipt", accepted=message.digest, leaf_hash=leaf_hash(self.leaves[index]).hex(),
            log_index=index, time=timestamp(self.now),
        )  # fmt: skip
        envelope = sign_envelope("receipt", receipt.as_json(), "coordinator", self.idk)
        self.receipts[message.digest] = {"receipt": b64u(envelope), "inclusion": self.inclusion(index)}
        return reply(self.receipts[message.digest])


class _Transport(httpx.BaseTransport):
    def __init__(
        self, coordinator: FakeCoordinator, site: str, before: Callable[[str], None], after: Callable[[str], None]
    ) -> None:
        self._coordinator, self._site, self._before, self._after = coordinator, site, before, after

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.read()
        name = f"{request.method} {request.url.path}"
        self._before(name)
        response = self._coordinator.handle(self._site, request)
        self._after(name)
        return response


def _kept(message: SignedMessage) -> KeptMessage:
    return KeptMessage.check({"kind": message.kind, "envelope": b64u(message.envelope)})


def reply(value: JsonObject, status: int = 200) -> httpx.Response:
    return httpx.Response(status, content=json.dumps(value).encode(), headers={"Content-Type": "application/json"})


def problem(error: MitralError) -> httpx.Response:
    document = problem_document(error, "test")
    return httpx.Response(
        error.meaning.status, content=json.dumps(document).encode(), headers={"Content-Type": MEDIA_TYPE}
    )


def _nothing(_name: str) -> None:
    """Let a request pass."""


def _tail_words(layout: VectorLayout, tail: dict[str, list[int]]) -> bytes:
    """Encode summed tail values as words; the last limb takes what is left, because sums may exceed a limb."""
    bits, words = limb_bits(layout.b, layout.n), []
    for item in layout.tail:
        for value in tail.get(item.name, [0] * item.length):
            words += [(value >> bits * limb) & ((1 << bits) - 1) for limb in range(item.limbs - 1)]
            words.append(value >> bits * (item.limbs - 1))
    return np.array(words, "<u4").tobytes()
