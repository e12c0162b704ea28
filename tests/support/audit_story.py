"""A small federation's whole log, written with real keys, and the coordinator that may tell it otherwise.

`Story` records entries, envelopes, rosters and contexts; `export` signs a checkpoint over whatever stands in it and
writes the archive. Tests change the story first: that is the adversarial coordinator, which holds the log key and its
own identity key but no site's.
"""

import io
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from shared.audit.archive import ArchiveSource, write_archive
from shared.audit.entries import Actor, build_entry
from shared.audit.log_checkpoint import (
    ED25519,
    LogCheckpoint,
    LogVkey,
    add_signature_lines,
    cosign,
    sign_checkpoint,
    witness_name,
)
from shared.audit.merkle import leaf_hash, tree_root
from shared.canonical import JsonObject, canonical_bytes, sha256_hex, tagged_hash
from shared.clock import timestamp
from shared.crypto.identity import SigningKey
from shared.crypto.sealing import KemPrivateKey, KemPublicKey
from shared.crypto.signed_envelope import sign_envelope
from shared.secagg import certificate, roster

ORIGIN = "alpha/log/1"
START = datetime(2026, 11, 21, 9, 0, tzinfo=UTC)
PLAN = "44" * 32
ZERO = "00" * 32
STUDY = "demo"
COORDINATOR = Actor("coordinator", "coordinator", "local")
LOG_KEY = SigningKey.from_seed(tagged_hash("test", b"log"))
COORDINATOR_KEY = SigningKey.from_seed(tagged_hash("test", b"coordinator"))


def site_key(site: str, purpose: str = "idk") -> SigningKey:
    """Return a site's key for a purpose, always the same one."""
    return SigningKey.from_seed(tagged_hash("test", f"{site}/{purpose}".encode()))


@cache
def kem_of(owner: str) -> KemPublicKey:
    """Return an owner's KEM keys, the same ones for as long as the tests run."""
    del owner
    return KemPrivateKey.generate().public_key


def build_roster(sites: list[str], version: int = 1, prev: JsonObject | None = None) -> JsonObject:
    """Return a roster of these sites."""
    vkey = LogVkey(ORIGIN, ED25519, LOG_KEY.verify_key).encode()
    return roster.build_roster(
        "alpha",
        version,
        roster.roster_hash(prev) if prev else None,
        sites=[
            roster.site_entry(
                site,
                name=f"Hospital {site}",
                legal="",
                idk=site_key(site).verify_key,
                log_key=site_key(site, "log").verify_key,
                kem=kem_of(site),
                kem_seq=1,
                attest=roster.attest_kem(site_key(site), kem_of(site), 1),
            )
            for site in sites
        ],
        coordinator=roster.coordinator_entry(COORDINATOR_KEY.verify_key, vkey, kem_of("coordinator")),
        not_after=date(2030, 1, 1),
    )


@dataclass
class Story:
    """What stands in the log so far."""

    leaves: list[bytes] = field(default_factory=list)
    rosters: list[tuple[JsonObject, list[bytes]]] = field(default_factory=list)
    envelopes: dict[str, bytes] = field(default_factory=dict)
    contexts: dict[str, JsonObject] = field(default_factory=dict)
    ends: dict[str, tuple[int, str]] = field(default_factory=dict)  # study -> number and hash of its newest entry
    seq: int = 0
    newest_outcome: str | None = None
    model: str = "33" * 32

    def add(self, type_: str, data: JsonObject, *, actor: Actor = COORDINATOR, **more: Any) -> None:
        """Append an entry."""
        number, study = len(self.leaves), more.get("study")
        leaf = build_entry(
            log=ORIGIN,
            entry_id=f"00000000-0000-7000-8000-{number:012x}",
            ts=timestamp(START + timedelta(seconds=number)),
            type_=type_,
            actor=actor,
            data=data,
            follows=self.ends.get(study or ""),
            **more,
        )
        self.leaves.append(leaf)
        if study is not None:
            self.ends[study] = (self.ends.get(study, (0, ""))[0] + 1, leaf_hash(leaf).hex())

    def sign(self, kind: str, site: str, body: JsonObject, key: SigningKey | None = None) -> bytes:
        """Return a site's signed message and keep it as evidence."""
        self.seq += 1
        payload = {**body, "site": site, "seq": self.seq, "prev": ZERO}
        envelope = sign_envelope(kind, payload, site, key or site_key(site))
        self.envelopes[sha256_hex(envelope)] = envelope
        return envelope

    def act(self, type_: str, site: str, kind: str, body: JsonObject, data: JsonObject, **more: Any) -> bytes:
        """Append the entry of a site's act with its signed message."""
        envelope = self.sign(kind, site, body)
        actor = Actor("site", site, "mtls:" + "ab" * 32)
        self.add(type_, {"site": site, **data}, actor=actor, evidence=[sha256_hex(envelope)], **more)
        return envelope

    def found(self, sites: list[str]) -> JsonObject:
        """Propose, sign and activate the next roster version."""
        previous = self.rosters[-1][0] if self.rosters else None
        new = build_roster(sites, previous["version"] + 1 if previous else 1, previous)
        facts = {"version": new["version"], "roster": roster.roster_hash(new)}
        if not self.leaves:
            vkey = new["coordinator"]["log_vkey"]
            facts_of_log = {"federation": "alpha", "log_vkey": vkey, "coordinator_idk": new["coordinator"]["idk"]}
            self.add("log.opened", facts_of_log)
        self.add("roster.proposed", facts)
        former = [site["id"] for site in previous["sites"]] if previous else []
        approvals = []
        for site in sorted({*sites, *former}):
            body = {"v": "SA1", "kind": "roster", **facts}
            approvals.append(self.act("roster.approved", site, "approval", body, facts))
        self.rosters.append((new, approvals))
        self.add("roster.activated", facts)
        return new

    def approve_plan(self, sites: list[str], decision: str = "approve") -> None:
        """Let stewards approve or withdraw the plan."""
        type_ = "plan.approved" if decision == "approve" else "plan.withdrawn"
        for site in sites:
            body = {"v": "SA1", "kind": "study", "study": STUDY, "plan": PLAN, "decision": decision}
            self.act(type_, site, "approval", body, {"plan": PLAN}, study=STUDY)

    def open_round(self, number: int, sites: list[str], **changes: Any) -> JsonObject:
        """Freeze a context."""
        active = self.rosters[-1][0]
        t = (len(sites) + active["c"]) // 2 + 1
        ctx: JsonObject = {
            "v": "SA1",
            "kind": "update",
            "group": 0,
            "study": STUDY,
            "roster": roster.roster_hash(active),
            "round": number,
            "model": self.model,
            "plan": PLAN,
            "prev": self.newest_outcome,
            "P": [{"site": site, "pairing": "a1" * 32} for site in sites],
            "t": t,
            "c": active["c"],
            "m": max(3, t),
            "d": 16,
            "tail": [{"name": "weight", "limbs": 2, "length": 1}],
            "b": 24,
            "q": 16,
            "w_cap": 20000,
            "clip": "55" * 32,
            "dp": "66" * 32,
            "expires": "2026-12-01T00:00:00.000Z",
            **changes,
        }
        ctx_hash = hash_of(ctx)
        self.contexts[ctx_hash] = ctx
        facts = {name: ctx[name] for name in ("round", "kind", "model", "plan", "roster")}
        self.add("round.open", {"ctx_hash": ctx_hash, **facts}, study=STUDY)
        return ctx

    def upload(self, ctx: JsonObject, site: str) -> str:
        """Log a masked update; return the manifest hash."""
        body = {"ctx_hash": hash_of(ctx), "b_commit": "77" * 32, "seed_commit": {}, "shares": {}}
        payload = {**body, "site": site, "seq": self.seq + 1, "prev": ZERO}
        manifest_hash = sha256_hex(canonical_bytes(payload))
        data = {"ctx_hash": hash_of(ctx), "manifest_hash": manifest_hash}
        self.act("round.upload", site, "manifest", body, data, study=STUDY)
        return manifest_hash

    def propose(self, ctx: JsonObject, uploads: dict[str, str]) -> JsonObject:
        """Propose the close over these uploads."""
        stmt = certificate.statement(hash_of(ctx), uploads, certificate.uploads_hash(uploads.items()))
        self.add("round.close.proposed", _of(stmt), study=STUDY)
        return stmt

    def decide(self, stmt: JsonObject, signers: list[str]) -> list[bytes]:
        """Let sites sign the statement."""
        return [self.act("round.decided", site, "decision", {"stmt": stmt}, _of(stmt), study=STUDY) for site in signers]

    def certify(self, stmt: JsonObject, decisions: list[bytes]) -> None:
        """Log the certificate."""
        self.add("round.cert", _of(stmt), evidence=[sha256_hex(one) for one in decisions], study=STUDY)

    def unmask(self, stmt: JsonObject, sites: list[str]) -> None:
        """Log the releases, by hash only."""
        for site in sites:
            actor = Actor("site", site, "mtls:" + "ab" * 32)
            self.add("round.unmask", {**_of(stmt), "site": site, "response": "99" * 32}, actor=actor, study=STUDY)

    def publish(self, stmt: JsonObject, **changes: Any) -> JsonObject:
        """Log the result; return the outcome."""
        outcome = {"ctx_hash": stmt["ctx"], "U": stmt["U"], "aggregate_sha256": "aa" * 32, "model_sha256": "bb" * 32}
        outcome |= changes
        self.add("round.result", {**_of(stmt), "outcome": outcome}, study=STUDY)
        self.newest_outcome = tagged_hash("SA1 outcome", canonical_bytes(outcome)).hex()
        self.model = outcome["model_sha256"]
        return outcome

    def play_round(self, number: int, sites: list[str], uploaders: list[str] | None = None) -> JsonObject:
        """Play a whole round; return the context."""
        ctx = self.open_round(number, sites)
        uploads = {site: self.upload(ctx, site) for site in uploaders or sites}
        stmt = self.propose(ctx, uploads)
        decisions = self.decide(stmt, sites)
        self.certify(stmt, decisions[: ctx["t"]])
        self.unmask(stmt, sites[: ctx["t"]])
        self.publish(stmt)
        return ctx

    def note(self, witnesses: list[str] | None = None) -> str:
        """Sign a checkpoint over everything that stands in the log."""
        head = LogCheckpoint(ORIGIN, len(self.leaves), tree_root(map(leaf_hash, self.leaves)))
        lines = [
            cosign(head, witness_name(ORIGIN, site), site_key(site, "log"), 1796000000) for site in witnesses or []
        ]
        return add_signature_lines(sign_checkpoint(head, LOG_KEY), lines)

    def export(self, path: Path, witnesses: list[str] | None = None, **wishes: Any) -> Path:
        """Write the archive."""
        path.write_bytes(self.export_bytes(witnesses, **wishes))
        return path

    def export_bytes(self, witnesses: list[str] | None = None, **wishes: Any) -> bytes:
        """Return the archive; `wishes` are further fields of its source."""
        source = ArchiveSource(
            self.note(witnesses), self.leaves, self.rosters, self.envelopes.values(), self.contexts.values(), **wishes
        )
        target = io.BytesIO()
        write_archive(target, source, COORDINATOR_KEY, timestamp(START))
        return target.getvalue()


def hash_of(ctx: JsonObject) -> str:
    """Return ``ctx_hash``."""
    return tagged_hash("SA1 ctx", canonical_bytes(ctx)).hex()


def _of(stmt: JsonObject) -> JsonObject:
    return {"ctx_hash": stmt["ctx"], "stmt_hash": certificate.statement_hash(stmt)}


def tell(rounds: int = 2) -> Story:
    """Return the honest story: four hospitals, a plan, some rounds, and a hospital that drops out of one."""
    sites = [f"site-{letter}" for letter in "abcd"]
    story = Story()
    story.found(sites)
    story.approve_plan(sites)
    for number in range(1, rounds + 1):
        story.play_round(number, sites, sites[:3] if number == 2 else None)
    return story
