"""R0: may this site bind this context? Every check of PROTOCOLS A7 in its order, each with a stable code.

Nothing is approved by default, and no number is taken from the coordinator that this site can derive itself. All checks
run in one transaction on what the site has verified before; nothing here asks the network.
"""

from datetime import datetime

from shared.canonical import canonical_bytes, tagged_hash
from shared.clock import parse_timestamp
from shared.errors import MitralError, Refusal
from shared.protocol.pairing import LONGEST_USE, MOST_USES
from shared.protocol.round_context import Context, TailEntry, clip_hash, dp_hash
from shared.protocol.study import Plan
from shared.protocol.vector_layout import scored_part, vector_layout
from shared.secagg.parameters import Parameters, check_parameters, least_survivors
from shared.secagg.roster import is_expired, site_keys
from site_agent.approvals import Consent, read_consent
from site_agent.log_checks import check_log
from site_agent.storage import outcomes, pairings, rosters, rounds
from site_agent.storage.database import Transaction
from site_agent.storage.rosters import StoredRoster

MOST_SEALED_UPDATES_PER_MODEL = 3
HISTOGRAMS = ("score_histogram", "test_histogram")


def check_context(tx: Transaction, site: str, ctx: Context, now: datetime) -> Consent:
    """Return the consent under which `ctx` may be bound at `site`.

    Raises:
        Refusal: the first check that fails, in the order of R0.
    """
    consent = read_consent(tx, ctx.study, now)
    check_log(tx, now)
    if ctx.plan != consent.plan_hash:
        raise Refusal("plan_not_approved", f"the context names plan {ctx.plan}, {consent.plan_hash} is approved")
    roster = check_roster_of(tx, ctx, now)
    _check_numbers(ctx, consent.plan, roster, site)
    check_pairings(tx, site, ctx, now)
    check_not_bound(tx, ctx)
    check_released_once(tx, ctx)
    check_model(tx, ctx, consent.plan)
    if parse_timestamp(ctx.expires) <= now:
        # Secondary on purpose: round order above already decided what may be bound (attack table row 28).
        raise Refusal("context_expired", f"the context ran out at {ctx.expires}")
    return consent


def check_roster_of(tx: Transaction, ctx: Context, now: datetime) -> StoredRoster:
    """Return the active roster if the context is of it.

    Raises:
        Refusal: ``roster_not_active``, ``roster_expired``.
    """
    active = rosters.read_active(tx)
    if active is None or active.roster_hash != ctx.roster:
        raise Refusal("roster_not_active", f"the context is of roster {ctx.roster}, which is not the active one here")
    if is_expired(active.roster, now):
        raise Refusal("roster_expired", f"roster version {active.version} ran out on {active.roster['not_after']}")
    return active


def _check_numbers(ctx: Context, plan: Plan, roster: StoredRoster, site: str) -> None:
    """C1 to C6, the formula of t, m, the vector's layout, clips, and the overflow rule (A3, A9)."""
    cohort = ctx.sites
    numbers = Parameters(n=len(cohort), t=ctx.t, c=ctx.c, m=ctx.m, q=ctx.q, b=ctx.b, w_cap=ctx.w_cap)
    check_parameters(
        numbers,
        cohort,
        site=site,
        roster_sites=set(site_keys(roster.roster)),
        members=set(plan.sites),
        roster_c=int(roster.roster["c"]),
    )
    least = plan.secure_aggregation.least_survivors or least_survivors(numbers.n, numbers.t)
    if ctx.m < least:
        raise Refusal("least_survivors_low", f"the context accepts {ctx.m} survivors, the plan asks for {least}")
    try:
        layout = vector_layout(plan, ctx.kind, numbers.n, scored_part(ctx.tail))
    except MitralError as error:
        raise Refusal("layout_differs", f"the plan has no such {ctx.kind} context: {error.detail}") from error
    if (ctx.d, ctx.b, ctx.q, ctx.tail) != (layout.d, layout.b, layout.q, layout.tail):
        raise Refusal("layout_differs", f"d, b, q or tail of this {ctx.kind} context are not what the plan leads to")
    if ctx.w_cap != plan.secure_aggregation.w_cap:
        raise Refusal("layout_differs", f"w_cap is {ctx.w_cap}, the plan says {plan.secure_aggregation.w_cap}")
    if ctx.clip != clip_hash(plan.secure_aggregation.clip):
        raise Refusal("clip_differs", "the clip table is not the plan's")
    if ctx.dp != dp_hash(plan.dp):
        raise Refusal("dp_differs", "the differential-privacy parameters are not the plan's")


def check_pairings(tx: Transaction, site: str, ctx: Context, now: datetime) -> None:
    """Check that every pairing the context names is verified, newest, of its roster, covers this site, and not worn.

    Raises:
        Refusal: ``pairing_unknown``, ``pairing_superseded``, ``pairing_not_covering``.
    """
    own = pairings.read_own(tx, ctx.study)
    for participant in ctx.P:
        if participant.site == site:
            if own is None or own.pairing_hash != participant.pairing or not own.halves:
                raise Refusal("pairing_superseded", "the context does not name this site's newest bundle")
            continue
        peer = pairings.read_peer(tx, ctx.study, participant.pairing)
        if peer is None or peer.site != participant.site:
            raise Refusal("pairing_unknown", f"the bundle of {participant.site} that the context names is not known")
        if peer.serial != pairings.read_peer_serial(tx, ctx.study, peer.site) or peer.roster_hash != ctx.roster:
            raise Refusal("pairing_superseded", f"{peer.site} made a newer bundle, or this one is of another roster")
        if peer.half is None or own is None or peer.site not in own.halves:
            raise Refusal("pairing_not_covering", f"{peer.site} and this site do not cover each other")
    if own is None or own.roster_hash != ctx.roster:
        raise Refusal("pairing_superseded", "this site's bundle is of another roster")
    uses, made_at = rounds.count_bound_since(tx, ctx.study, own.made_at), parse_timestamp(own.made_at)
    if uses >= MOST_USES or now - made_at > LONGEST_USE:
        raise Refusal("pairing_superseded", f"this site's bundle of {own.made_at} served {uses} contexts: pair anew")


def check_not_bound(tx: Transaction, ctx: Context) -> None:
    """Check that rounds only increase and each is bound once (W5).

    Raises:
        Refusal: ``round_not_newer``.
    """
    last = rounds.read_last_round(tx, ctx.study, ctx.kind)
    if ctx.round <= last:
        raise Refusal(
            "round_not_newer", f"{ctx.kind} round {ctx.round} of {ctx.study} comes after round {last} was bound"
        )


def check_released_once(tx: Transaction, ctx: Context) -> None:
    """Check that no deterministic item is asked for twice (W5, ADR 0004).

    Raises:
        Refusal: ``statistics_repeated``, ``histogram_repeated``.
    """
    for model, item in deterministic_items(ctx):
        earlier = rounds.read_released_item(tx, ctx.study, model, item)
        if earlier is not None and earlier != ctx.ctx_hash:
            code = "statistics_repeated" if ctx.kind == "statistics" else "histogram_repeated"
            raise Refusal(code, f"{item} of {model or ctx.study} was sealed before, in context {earlier}")


def check_model(tx: Transaction, ctx: Context, plan: Plan) -> None:
    """Check R5: the chain's newest outcome, a model this site accepted, and not too many updates from one model.

    Raises:
        Refusal: ``outcome_not_newest``, ``model_not_accepted``, ``model_overused``.
    """
    newest = outcomes.read_newest(tx, ctx.study)
    if ctx.prev != (None if newest is None else newest.outcome_hash):
        raise Refusal(
            "outcome_not_newest", "the context does not follow the newest outcome that this site has verified"
        )
    current = plan.initial_model if newest is None else newest.model
    if ctx.kind != "metrics" and ctx.model != current:
        raise Refusal("model_not_accepted", f"the context starts from {ctx.model}, the study's model is {current}")
    if not outcomes.has_model_version(tx, ctx.study, ctx.model):
        raise Refusal("model_not_accepted", f"model version {ctx.model} was neither recomputed here nor attested")
    if ctx.kind == "update":
        used = rounds.count_sealed(tx, ctx.study, ctx.model)
        if used >= MOST_SEALED_UPDATES_PER_MODEL:
            raise Refusal("model_overused", f"{used} updates were sealed from {ctx.model}; an administrator decides")


def deterministic_items(ctx: Context) -> list[tuple[str, str]]:
    """Return (model, item) of everything in a context that is released at most once; statistics have no model."""
    if ctx.kind == "statistics":
        return [("", f"statistics/{tail_layout_hash(ctx.tail)}")]
    return [(ctx.model, entry.name) for entry in ctx.tail if entry.name in HISTOGRAMS]


def tail_layout_hash(tail: list[TailEntry]) -> str:
    """Return a digest of what a tail holds; limbs are left out, because they follow from the number of sites."""
    return tagged_hash("SA1 tail", canonical_bytes([[entry.name, entry.length] for entry in tail])).hex()
