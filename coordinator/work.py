"""What a site is asked to do, derived from the state at every poll, so that no crash can lose it (PROTOCOLS A7)."""

from datetime import datetime

from coordinator import cohort
from coordinator.storage import pairings, rosters, rounds, studies
from coordinator.storage.database import Transaction
from coordinator.storage.rosters import StoredRoster
from coordinator.storage.rounds import Round
from coordinator.storage.studies import Study
from shared.protocol.confirm_survivors import UploadReference
from shared.protocol.work import (
    BundleReference,
    BundlesCommand,
    CloseCommand,
    Command,
    EndedCommand,
    OpenCommand,
    PairingCommand,
    RosterCommand,
    StudyCommand,
    UnmaskCommand,
)

_ENDED_SHOWN = 3  # a site that was away learns of this many rounds without an outcome, and wipes their secrets


def commands(tx: Transaction, site: str, now: datetime) -> list[Command]:
    """Return the site's commands in a stable order."""
    found: list[Command] = []
    active, newest = rosters.read_active(tx), rosters.read_newest(tx)
    if newest is not None and (site in newest.site_ids or (active is not None and site in active.site_ids)):
        approved_by = sorted(rosters.read_approvals(tx, newest.version))
        found.append(
            RosterCommand(kind="roster", version=newest.version, roster=newest.roster_hash, approved_by=approved_by)
        )
    for study in studies.read_studies(tx):
        if site not in study.plan.sites:
            continue
        about = {"study": study.study, "plan": study.plan_hash, "state": study.state, "outcomes": study.outcome_count}
        found.append(StudyCommand.check({"kind": "study", **about}))
        live = rounds.read_live(tx, study.study)
        if study.state == "running" and active is not None:
            found += _pairing(tx, study, active, live, site, now)
        if live is not None and live.ctx_hash is not None and site in live.ctx.sites:
            found += _round(tx, live, site)
        found += _ended(tx, study, site)
    return found


def _pairing(
    tx: Transaction, study: Study, active: StoredRoster, live: Round | None, site: str, now: datetime
) -> list[Command]:
    members = cohort.members(tx, study, active)
    if site not in members or len(members) < 2:
        return []
    bundles = pairings.read_current(tx, study.study)
    found: list[Command] = []
    # A new bundle in the middle of a round would outdate the one its context names.
    is_busy = live is not None and live.ctx_hash is not None and site in live.ctx.sites
    if not is_busy and cohort.needs_bundle(site, members, bundles.get(site), active.roster_hash, now):
        serial = pairings.read_last_serial(tx, study.study, site) + 1
        found.append(PairingCommand(kind="pairing", study=study.study, serial=serial, members=members))
    if is_busy and live is not None:
        # Nobody outdates the bundles of a live context by sending a newer one: those it names are handed out.
        named = {participant.site: pairings.read_by_hash(tx, participant.pairing) for participant in live.ctx.P}
        bundles |= {other: bundle for other, bundle in named.items() if bundle is not None}
    others = [
        BundleReference(site=other, pairing=bundles[other].pairing_hash, blob=bundles[other].blob)
        for other in members
        if other != site and other in bundles and bundles[other].roster_hash == active.roster_hash
    ]
    if others:
        found.append(BundlesCommand(kind="bundles", study=study.study, bundles=others))
    return found


def _round(tx: Transaction, live: Round, site: str) -> list[Command]:
    ctx_hash = live.ctx.ctx_hash
    if live.state == "OPEN":
        if site in rounds.read_uploaders(tx, ctx_hash) or site in rounds.read_refusals(tx, ctx_hash):
            return []
        return [OpenCommand(kind="open", ctx=live.ctx, upload_until=live.upload_until or "")]
    if live.state == "CLOSING" and live.stmt is not None:
        if site in rounds.read_decisions(tx, ctx_hash):
            return []
        uploads = rounds.read_uploads(tx, ctx_hash)
        references = [UploadReference(site=one, manifest=uploads[one].manifest_hash) for one in live.stmt.U]
        return [CloseCommand(kind="close", ctx=live.ctx, stmt=live.stmt, uploads=references)]
    if live.state in {"CERTIFIED", "UNMASKING"} and site not in rounds.read_responders(tx, ctx_hash):
        return [UnmaskCommand(kind="unmask", study=live.study, ctx_hash=ctx_hash)]
    return []


def _ended(tx: Transaction, study: Study, site: str) -> list[Command]:
    return [
        EndedCommand(
            kind="ended",
            study=study.study,
            ctx_hash=round_.ctx_hash,
            state="ABANDONED" if round_.state == "ABANDONED" else "LOST",
            reason=round_.reason or "",
        )
        for round_ in rounds.read_newest_ended(tx, study.study, _ENDED_SHOWN)
        if round_.state != "PUBLISHED" and round_.ctx_hash is not None and site in round_.ctx.sites
    ]
