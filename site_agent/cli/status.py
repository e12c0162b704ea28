"""`mitral-site status`."""

import json
from typing import Annotated

import typer

from shared.canonical import JsonObject
from site_agent.log_checks import FINAL_AT, FINAL_SIZE
from site_agent.storage import datasets, log, notices, outbox, outcomes, rosters, rounds, studies
from site_agent.storage.database import Transaction
from site_agent.storage.enrolment import read_enrolment
from site_agent.storage.signed_messages import read_end


def status(
    context: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show who this site is, what it takes part in, its own figures, what waits to be sent, and what needs a person."""
    with context.obj.open() as state, state.database.reading("status") as tx:
        found = describe(tx)
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    for line in _lines(found):
        typer.echo(line)


def describe(tx: Transaction) -> JsonObject:
    """Return everything `status` shows. The figures are this hospital's own; they are shown here and sent nowhere."""
    enrolment, active, facts = read_enrolment(tx), rosters.read_active(tx), notices.read_facts(tx)
    return {
        "site": None if enrolment is None else enrolment.site,
        "federation": None if enrolment is None else enrolment.federation,
        "enrolment": "none" if enrolment is None else enrolment.state,
        "fingerprint": None if enrolment is None else enrolment.fingerprint,
        "roster": None if active is None else {"version": active.version, "sites": len(active.roster["sites"])},
        "last_contact_at": facts.get("last_contact_at"),
        "bytes_sent": int(facts.get("bytes_sent", "0")),
        "signed_messages": read_end(tx).seq,
        "outbox": outbox.count_pending(tx),
        "rejected": [{"seq": seq, "kind": kind, "code": code} for seq, kind, code in outbox.read_rejected(tx)],
        "log": _log(tx, facts),
        "data": [stored.name for stored in datasets.read_datasets(tx)],
        "studies": [_study(tx, stored) for stored in studies.read_studies(tx)],
        "rounds": [
            {"study": one.study, "kind": one.kind, "round": one.round, "state": one.state, "ctx_hash": one.ctx_hash}
            for one in rounds.read_open_rounds(tx)
        ],
        "notices": [
            {"code": one.code, "subject": one.subject, "detail": one.detail, "at": one.last_at, "count": one.count}
            for one in notices.read_notices(tx)
        ],
    }


def _log(tx: Transaction, facts: dict[str, str]) -> JsonObject:
    conflict = log.read_conflict(tx)
    return {
        "cosigned": log.read_head(tx).size,
        "final": int(facts.get(FINAL_SIZE) or 0),
        "final_at": facts.get(FINAL_AT),
        "receipts_open": len(log.read_receipts(tx)),
        "conflict": None if conflict is None else {"detail": conflict.detail, "evidence": conflict.file},
    }


def _study(tx: Transaction, stored: studies.StoredStudy) -> JsonObject:
    approval, newest = studies.read_approval(tx, stored.study), outcomes.read_newest(tx, stored.study)
    return {
        "study": stored.study,
        "state": stored.state,
        "plan": stored.plan_hash,
        "approval": None if approval is None else approval.decision,
        "dataset": None if approval is None else approval.dataset,
        "outcomes": 0 if newest is None else newest.index,
        "model": None if newest is None else newest.model,
        "own_figures": [
            {"kind": one.kind, "round": one.round, **one.metrics} for one in notices.read_own_metrics(tx, stored.study)
        ],
    }


def _lines(found: JsonObject) -> list[str]:
    lines = [f"site {found['site']} of {found['federation']}: {found['enrolment']}"]
    if found["fingerprint"]:
        lines.append(f"fingerprint {found['fingerprint']}")
    roster = found["roster"]
    lines.append(
        "no roster is active" if roster is None else f"roster version {roster['version']}, {roster['sites']} sites"
    )
    lines.append(f"last contact {found['last_contact_at'] or 'never'}; {found['outbox']} messages wait to be sent")
    witnessed = found["log"]
    lines.append(f"log: {witnessed['cosigned']} entries copied and cosigned, final up to {witnessed['final']}")
    if witnessed["conflict"]:
        lines.append(
            f"! two histories of the log: {witnessed['conflict']['detail']} ({witnessed['conflict']['evidence']})"
        )
    for study in found["studies"]:
        lines.append(f"study {study['study']}: {study['state']}, {study['approval'] or 'not approved'} here")
        for figures in study["own_figures"][-5:]:
            shown = ", ".join(f"{key} {value}" for key, value in figures.items() if key not in {"kind", "round"})
            lines.append(f"  {figures['kind']} {figures['round']}: {shown} (this hospital alone)")
    lines += [f"round {one['round']} of {one['study']} ({one['kind']}): {one['state']}" for one in found["rounds"]]
    lines += [f"! {one['code']} ({one['subject']}): {one['detail']}" for one in found["notices"]]
    return lines
