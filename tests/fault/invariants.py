"""What must hold after every operation of every history. Each function is one promise, and says where it stands.

They look at what is committed in the databases and folders, and at what ever left a site on the wire.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from coordinator.rounds.masked_update import layout_of
from coordinator.storage import log as stored_log
from coordinator.storage import rounds as stored_rounds
from shared.audit.log_checkpoint import parse_note
from shared.audit.merkle import MemoryTree, consistency_proof, verify_consistency
from shared.canonical import from_b64u
from shared.crypto.sealing import open_sealed
from shared.crypto.signed_envelope import open_envelope
from shared.protocol.unmask import SealedUnmaskResponse
from shared.secagg.certificate import check_certificate
from shared.secagg.parameters import largest_quantum
from shared.secagg.tail import decode_tail
from site_agent.rounds.unmask import sealing_info
from tests.fault.simulated_site import WEIGHT, cases_of

if TYPE_CHECKING:
    from coordinator.storage.rounds import Round
    from tests.fault.network import Sent
    from tests.fault.simulated_site import SimulatedSite
    from tests.fault.simulation import Simulation

ENDED = {"PUBLISHED", "ABANDONED", "LOST"}
# What an honest coordinator must never be accused of, whatever the network does.
ACCUSATIONS = {
    "aggregate_malformed", "certificate_statement", "certificate_signature", "decision_conflict", "manifest_foreign",
    "model_differs", "outcome_invalid", "outcome_missing", "outcome_not_logged", "pairing_mismatch",
    "plan_equivocation", "receipt_invalid", "roster_equivocation", "round_transition", "seq_reused",
    "unmask_request_invalid", "upload_damaged", "log_conflict", "log_rolled_back", "log_clock_ahead",
    "receipt_not_logged", "certificate_rogue", "entry_malformed",
}  # fmt: skip


@dataclass
class Memory:
    """What was seen so far, so that a check looks at each thing once."""

    tree: MemoryTree = field(default_factory=MemoryTree)
    leaves: list[bytes] = field(default_factory=list)
    checkpoints: list[tuple[int, bytes]] = field(default_factory=list)
    looked_at: int = 0  # messages on the wire
    decisions: dict[str, dict[str, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    responses: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    revealed: dict[tuple[str, str], tuple[set[str], set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: (set(), set()))
    )
    uploaded: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    sums: set[str] = field(default_factory=set)
    certified: set[str] = field(default_factory=set)
    receipts: dict[tuple[str, int], str] = field(default_factory=dict)  # leaf hashes
    chain: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    resumed: int = 0


def check(simulation: Simulation) -> None:
    """Check everything.

    Raises:
        AssertionError: a promise is broken.
    """
    found = simulation.rounds()
    check_no_bug_answered(simulation)
    check_log_only_grows(simulation)
    check_wire(simulation)
    check_one_statement_per_context(simulation, found)
    for one in found:
        check_sum(simulation, one)
    for site in simulation.sites.values():
        check_chain(simulation, site)
        check_nothing_signed_for_an_older_round(site, found)
        check_receipts(simulation, site, found)
        check_cosigned(simulation, site)
        check_site_wiped(site)
        check_nobody_is_accused(site)
    check_coordinator_wiped(simulation, found)


def check_no_bug_answered(simulation: Simulation) -> None:
    """No request is answered with an internal error, and no agent stops for good (it never signed twice)."""
    assert not simulation.network.failures, simulation.network.failures
    stopped = {site.name: str(site.failure) for site in simulation.sites.values() if site.failure is not None}
    assert not stopped, f"an agent stopped for good: {stopped}"


def check_log_only_grows(simulation: Simulation) -> None:
    """Entries are never changed or taken back; every checkpoint is a prefix of every later one (PROTOCOLS B1, B3)."""
    memory = simulation.memory
    with simulation.reading() as tx:
        size, _ = stored_log.read_head(tx)
        stored = stored_log.read_leaves(tx, max(0, len(memory.leaves) - 1), size)
        notes = tx.rows("SELECT note FROM log_checkpoint WHERE size > :size ORDER BY size", size=_newest(memory))
    assert size >= len(memory.leaves), f"the log shrank from {len(memory.leaves)} to {size} entries"
    if memory.leaves:
        assert stored[0].leaf_hash == memory.leaves[-1], f"entry {stored[0].index} was changed"
        stored = stored[1:]
    for leaf in stored:
        assert leaf.index == len(memory.leaves), f"entry {len(memory.leaves)} is missing"
        memory.leaves.append(leaf.leaf_hash)
        memory.tree.append(leaf.leaf_hash)
    for row in notes:
        head = parse_note(row.note).checkpoint
        if memory.checkpoints:
            old_size, old_root = memory.checkpoints[-1]
            proof = consistency_proof(old_size, head.size, memory.tree.node)
            verify_consistency(old_size, old_root, head.size, head.root, proof)
        proof = consistency_proof(head.size, memory.tree.size, memory.tree.node)
        verify_consistency(head.size, head.root, memory.tree.size, memory.tree.root(), proof)
        memory.checkpoints.append((head.size, head.root))


def check_wire(simulation: Simulation) -> None:
    """What left the sites: one upload, one decision, one response per context, and shares of one kind per peer."""
    memory, network = simulation.memory, simulation.network
    for sent in network.sent[memory.looked_at :]:
        parts = sent.path.strip("/").split("/")
        if parts[1] == "rounds":
            _remember(simulation, sent, parts[2], parts[3])
    memory.looked_at = len(network.sent)
    for what, seen in (("upload", memory.uploaded), ("unmask response", memory.responses)):
        twice = [key for key, digests in seen.items() if len(digests) > 1]
        assert not twice, f"two different {what}s left {twice} (W2, W4)"
    for ctx_hash, by_site in memory.decisions.items():
        twice_signed = [site for site, statements in by_site.items() if len(statements) > 1]
        assert not twice_signed, f"{twice_signed} signed two survivor sets for {ctx_hash} (W3)"
    for (site, ctx_hash), (alive, dropped) in memory.revealed.items():
        both = alive & dropped
        assert not both, f"{site} released both kinds of share for {both} in {ctx_hash}"


def check_cosigned(simulation: Simulation, site: SimulatedSite) -> None:
    """What a witness let out was stored before, never shrinks, and is one note per size (PROTOCOLS B3)."""
    path = re.compile(rf"/v1/log/cosignatures/(\d+)/{site.name}")
    notes = [(int(found[1]), one.body) for one in simulation.network.sent if (found := path.fullmatch(one.path))]
    sizes = [size for size, _ in notes]
    head = site.query("SELECT size, note FROM log_head")
    assert sizes == sorted(sizes), f"{site.name} cosigned a smaller tree: {sizes}"
    assert len(set(sizes)) == len(set(notes)), f"{site.name} cosigned one size twice"
    assert not notes or head[0].size >= sizes[-1], f"{site.name} let out a head that it does not remember"
    entries = site.query("SELECT COUNT(*) AS count FROM log_entry")[0].count
    assert entries == (head[0].size if head else 0), f"{site.name} has {entries} entries under its head"


def check_one_statement_per_context(simulation: Simulation, found: list[Round]) -> None:
    """A context has at most one certified statement, signed by t members, and every decision is about it (A12)."""
    keys = {site.name: site.session.identity.idk.verify_key for site in simulation.sites.values()}
    with simulation.reading() as tx:
        rows = tx.rows("SELECT leaf FROM log_leaf WHERE type IN ('round.cert', 'round.close.proposed')")
        decisions = {one.ctx_hash: stored_rounds.read_decisions(tx, one.ctx_hash or "") for one in found}
    logged = [json.loads(row.leaf) for row in rows]
    for type_ in ("round.cert", "round.close.proposed"):
        contexts = [entry["data"]["ctx_hash"] for entry in logged if entry["type"] == type_]
        assert len(contexts) == len(set(contexts)), f"two {type_} entries for one context"
    statements = {entry["data"]["ctx_hash"]: entry["data"]["stmt_hash"] for entry in logged}
    for ctx_hash, by_site in simulation.memory.decisions.items():
        signed = set().union(*by_site.values())
        assert signed == {statements[ctx_hash]}, f"statements were signed that nobody proposed for {ctx_hash}"
    for one in found:
        is_certified = one.state in {"CERTIFIED", "UNMASKING", "AGGREGATED", "PUBLISHED"}
        if is_certified and one.ctx.ctx_hash not in simulation.memory.certified:
            assert one.stmt is not None
            simulation.memory.certified.add(one.ctx.ctx_hash)
            certificate = list(decisions[one.ctx_hash].values())[: one.ctx.t]
            check_certificate(one.stmt.as_json(), certificate, one.ctx.as_json(), keys)


def check_sum(simulation: Simulation, one: Round) -> None:
    """A published sum counts exactly the confirmed survivors, each once: in the main words and in the tail (A18)."""
    if one.state not in {"AGGREGATED", "PUBLISHED"} or one.ctx_hash in simulation.memory.sums:
        return
    ctx, raw = one.ctx, simulation.scene.blob(one.aggregate_sha256 or "")
    survivors = [list(simulation.sites).index(site) for site in one.survivors]
    assert len(survivors) >= ctx.m, f"{survivors} are fewer than m = {ctx.m}"
    quantum = largest_quantum(ctx.q)
    words = np.frombuffer(raw, "<i4", ctx.d).astype(np.int64)
    expected = np.zeros(ctx.d, np.int64)
    if ctx.d:
        expected[survivors] = quantum
    assert (np.abs(words - expected) <= 1).all(), f"the sum {words.tolist()} is not that of {one.survivors}"
    tail = decode_tail(layout_of(ctx).tail, np.frombuffer(raw, "<u4", offset=4 * ctx.d), ctx.b, len(ctx.P))
    assert tail["n_sites"] == [len(survivors)]
    if "weight" in tail:
        assert tail["weight"] == [WEIGHT * len(survivors)]
    if "cases" in tail:
        assert tail["cases"] == [sum(cases_of(index) for index in survivors)], "the tail counts other sites"
    simulation.memory.sums.add(ctx.ctx_hash)


def check_chain(simulation: Simulation, site: SimulatedSite) -> None:
    """A site's messages are numbered without a gap, each names the one before, none changes later (section 1.6)."""
    seen = simulation.memory.chain[site.name]
    rows = site.query(
        "SELECT seq, digest, prev, kind, subject FROM signed_message WHERE seq >= :start ORDER BY seq",
        start=len(seen),
    )
    for row in rows:
        if row.seq == len(seen):
            assert seen[-1] == (row.seq, row.digest), f"message {row.seq} of {site.name} was changed"
            continue
        assert row.seq == len(seen) + 1, f"message {len(seen) + 1} of {site.name} is missing"
        assert row.prev == (seen[-1][1] if seen else "0" * 64), f"message {row.seq} of {site.name} is not chained"
        seen.append((row.seq, row.digest))
    once = site.query(
        "SELECT subject FROM signed_message WHERE kind IN ('manifest', 'decision', 'unmask', 'attestation')"
        " GROUP BY subject HAVING COUNT(*) > 1"
    )
    assert not once, f"{site.name} signed twice: {once}"
    with simulation.reading() as tx:
        accepted = tx.rows("SELECT seq, digest FROM statement WHERE site = :site", site=site.name)
    strangers = [row.seq for row in accepted if (row.seq, row.digest) not in seen]
    assert not strangers, f"the coordinator accepted {strangers}, which {site.name} does not know"


def check_nothing_signed_for_an_older_round(site: SimulatedSite, found: list[Round]) -> None:
    """Once a later round of a study and kind is bound, nothing is signed for an older one (R0); a no is not a yes."""
    signed = site.query(
        "SELECT m.seq, m.kind, o.ctx_hash FROM signed_message m JOIN outbox o ON o.seq = m.seq"
        " WHERE o.ctx_hash IS NOT NULL AND m.kind <> 'refusal'"
    )
    about = {one.ctx_hash: one for one in found}
    for row in signed:
        one = about[row.ctx_hash]
        for before, study, kind, number in site.binds:
            late = row.seq > before and (study, kind) == (one.study, one.kind) and one.number < number
            assert not late, f"{site.name} signed a {row.kind} for {kind} round {one.number} after binding {number}"


def check_receipts(simulation: Simulation, site: SimulatedSite, found: list[Round]) -> None:
    """A receipt's entry stands in the log where it says; an upload with a receipt is in U once U is fixed (A7, B3)."""
    rounds = {one.ctx_hash: one for one in found}
    known, key = simulation.memory.receipts, {"coordinator": site.session.identity.coordinator_idk}
    for row in site.query("SELECT seq, kind, ctx_hash, receipt, log_index FROM outbox WHERE state = 'delivered'"):
        if (site.name, row.seq) not in known:
            receipt = open_envelope(row.receipt, "receipt", key).body
            assert receipt["log_index"] == row.log_index
            known[site.name, row.seq] = receipt["leaf_hash"]
        leaf = simulation.memory.leaves[row.log_index].hex()
        assert leaf == known[site.name, row.seq], f"entry {row.log_index} is not what a receipt of {site.name} says"
        one = rounds.get(row.ctx_hash)
        if row.kind == "manifest" and one is not None and one.stmt is not None:
            assert site.name in one.survivors, f"the upload of {site.name} has a receipt, but U is {one.survivors}"


def check_site_wiped(site: SimulatedSite) -> None:
    """After a context is over at a site, none of its secrets is left there: no shares, no files, no messages (W6)."""
    over = {row.ctx_hash for row in site.query("SELECT ctx_hash FROM round WHERE state = 'WIPED'")}
    over |= {row.ctx_hash for row in site.query("SELECT ctx_hash FROM outcome")}
    kept = over & {row.ctx_hash for row in site.query("SELECT ctx_hash FROM upload WHERE own_shares IS NOT NULL")}
    assert not kept, f"{site.name} keeps shares of {kept}"
    files = over & site.folder.rounds_on_disk()
    assert not files, f"{site.name} keeps files of {files}"
    queued = site.query("SELECT ctx_hash, kind FROM outbox WHERE body IS NOT NULL AND kind <> 'attestation'")
    waiting = [(row.ctx_hash, row.kind) for row in queued if row.ctx_hash in over and row.kind in _ROUND_KINDS]
    assert not waiting, f"{site.name} keeps messages of rounds that are over: {waiting}"
    sealed = "SELECT ctx_hash FROM round WHERE state NOT IN ('BOUND', 'TRAINED')"
    clear = [row.ctx_hash for row in site.query(sealed) if site.folder.work(row.ctx_hash).exists()]
    assert not clear, f"{site.name} keeps the clear update of {clear}"


def check_coordinator_wiped(simulation: Simulation, found: list[Round]) -> None:
    """After a context ended, no upload, share or response of it is left; after U is fixed, none of the others (26)."""
    uploads = simulation.scene.coordinator.uploads
    on_disk = set(uploads.contexts())
    ended = {one.ctx_hash for one in found if one.state in ENDED}
    assert not on_disk & ended, f"the coordinator keeps files of {on_disk & ended}"
    with simulation.reading() as tx:
        kept = {row.ctx_hash for row in tx.rows("SELECT ctx_hash FROM response WHERE sealed IS NOT NULL")}
    assert not kept & ended, f"the coordinator keeps responses of {kept & ended}"
    for one in found:
        if one.state in ENDED or one.stmt is None:
            continue
        for site in set(one.ctx.sites) - set(one.survivors):
            staged = uploads.chunks(one.ctx.ctx_hash, site) or uploads.shares(one.ctx.ctx_hash, site)
            assert not staged, f"the coordinator keeps an upload of {site}, which is not in U"


def check_nobody_is_accused(site: SimulatedSite) -> None:
    """No network fault and no crash looks like an attack."""
    rows = site.query("SELECT code, subject, detail FROM notice")
    accused = [f"{row.code} ({row.subject}): {row.detail}" for row in rows if row.code in ACCUSATIONS]
    assert not accused, f"{site.name}: {accused}"


def check_finished(simulation: Simulation) -> None:
    """At the end nothing is under way anywhere, and every site followed the whole chain of outcomes."""
    study = simulation.study()
    published = [one for one in simulation.rounds() if one.state == "PUBLISHED"]
    assert study.outcome_count == len(published)
    assert simulation.scene.coordinator.uploads.contexts() == []
    for site in simulation.sites.values():
        outcomes = site.query('SELECT "index", model FROM outcome ORDER BY "index"')
        assert [row.index for row in outcomes] == list(range(1, len(published) + 1)), site.name
        assert not outcomes or outcomes[-1].model == study.model, f"{site.name} ended with another model"
        assert not site.query("SELECT 1 FROM outbox WHERE state = 'pending'"), f"{site.name} still has to deliver"


_ROUND_KINDS = {"manifest", "decision", "unmask"}


def _newest(memory: Memory) -> int:
    return memory.checkpoints[-1][0] if memory.checkpoints else -1


def _remember(simulation: Simulation, sent: Sent, ctx_hash: str, phase: str) -> None:
    memory = simulation.memory
    keys = {site.name: site.session.identity.idk.verify_key for site in simulation.sites.values()}
    if phase == "manifest":
        memory.uploaded[sent.site, ctx_hash].add(open_envelope(sent.body, "manifest", keys).digest)
    elif phase == "decision":
        body = open_envelope(sent.body, "decision", keys).body
        memory.decisions[ctx_hash][sent.site].add(_statement_hash(body))
    elif phase == "unmask":
        sealed = SealedUnmaskResponse.parse(sent.body)
        kem = simulation.scene.coordinator.keys.kem
        envelope = open_sealed(kem, from_b64u(sealed.sealed), sealing_info(ctx_hash, sent.site))
        message = open_envelope(envelope, "unmask", keys)
        memory.responses[sent.site, ctx_hash].add(message.digest)
        alive, dropped = memory.revealed[sent.site, ctx_hash]
        alive |= set(message.body["b"])
        for seeds in message.body["s"].values():
            dropped |= set(seeds)


def _statement_hash(body: Any) -> str:
    from shared.protocol.confirm_survivors import Statement

    return Statement.check(body["stmt"]).statement_hash
