"""Studies: the plan is fetched by digest and checked before a steward can approve it."""

from shared.errors import InputError, PeerFault
from shared.protocol.study import Plan
from shared.protocol.work import StudyCommand
from shared.strategies.registry import check_strategy
from shared.task_catalogue import check_metrics, check_task
from site_agent.coordinator_client import CoordinatorClient
from site_agent.identity import SiteIdentity
from site_agent.rounds.wipe import wipe_study
from site_agent.storage import outcomes, studies
from site_agent.storage.database import Database
from site_agent.storage.studies import StoredStudy
from site_agent.traffic import Traffic

MAX_PLAN_BYTES = 4 * 2**20
_OVER = {"finished", "stopped"}  # no secret is kept for a study that asks for nothing more


def follow(database: Database, client: CoordinatorClient, identity: SiteIdentity, command: StudyCommand) -> StoredStudy:
    """Fetch and check the plan of a study that is new, and note what the coordinator says about it.

    Raises:
        PeerFault: ``plan_equivocation`` when the study had another plan before, ``plan_unacceptable`` with the reason.
    """
    with database.reading("read study") as tx:
        known = studies.read_study(tx, command.study)
    if known is None:
        raw = client.read_blob(command.plan, MAX_PLAN_BYTES, Traffic.STUDY)
        plan = check_plan(raw, command, identity)
        with database.transaction("store study") as tx:
            studies.add_study(tx, command.study, command.plan, raw, command.state)
            outcomes.add_model_version(tx, command.study, plan.initial_model, 0, "initial")
        return StoredStudy(command.study, command.plan, plan, command.state)
    if known.plan_hash != command.plan:
        raise PeerFault("plan_equivocation", f"{command.study} had the plan {known.plan_hash}, now {command.plan}")
    if known.state != command.state:
        with database.transaction("note study state") as tx:
            studies.set_state(tx, command.study, command.state)
            if command.state in _OVER:
                wipe_study(tx, command.study, f"the study is {command.state}")
    return known


def check_plan(raw: bytes, command: StudyCommand, identity: SiteIdentity) -> Plan:
    """Return the plan in a blob if it is one that this release understands completely and that names this site.

    Raises:
        PeerFault: ``plan_unacceptable``.
    """
    try:
        plan = Plan.parse(raw)
        check_task(plan.task)
        check_metrics(plan.metrics)
        check_strategy(plan.strategy)
    except (PeerFault, InputError) as error:
        raise PeerFault("plan_unacceptable", f"the plan of {command.study}: {error.detail}") from error
    flaw = _flaw(plan, raw, command, identity)
    if flaw:
        raise PeerFault("plan_unacceptable", f"the plan of {command.study}: {flaw}")
    return plan


def _flaw(plan: Plan, raw: bytes, command: StudyCommand, identity: SiteIdentity) -> str | None:
    if plan.canonical() != raw:
        return "it is not canonical JSON"
    if plan.study != command.study or plan.federation != identity.federation:
        return f"it describes study {plan.study} of {plan.federation}"
    if list(plan.sites) != sorted(set(plan.sites)) or identity.site not in plan.sites:
        return "its sites are not ascending, or this site is not among them"
    if plan.dp is not None:
        return "it asks for differential privacy, which this release cannot do"
    if set(plan.preprocessing) != {"normalise"} or plan.preprocessing["normalise"] not in {"federated", "none"}:
        return "its preprocessing is unknown"
    return None
