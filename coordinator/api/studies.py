"""Studies: operators submit, steer and watch them; stewards approve them; sites read their outcomes."""

import json

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from coordinator import pairings, studies
from coordinator.api import statements
from coordinator.api.call import Call, JsonAnswer
from coordinator.api.polling import HungUp, wait_for_news
from coordinator.rounds.summary import study_view, what_sites_do
from coordinator.storage import rounds
from coordinator.storage import studies as stored
from coordinator.storage.database import Transaction
from coordinator.storage.studies import Study
from shared.canonical import JsonObject, b64u, sha256_hex
from shared.errors import InputError, Misuse, Unavailable
from shared.protocol.outcome import PublishedOutcome
from shared.protocol.study import Plan

_OUTCOMES_AT_ONCE = 50


def submit(call: Call) -> Response:
    """Take a study protocol."""
    coordinator = call.coordinator
    plan = Plan.parse(call.body)
    _check_sender(call, plan.initial_model)
    layout = studies.read_initial_model(coordinator.blobs, plan)
    studies.check_plan(plan, coordinator.federation, layout, coordinator.clock.now())
    with coordinator.database.transaction("submit a study") as tx:
        now = coordinator.clock.now()
        study = studies.submit(tx, coordinator.log, coordinator.blobs, call.operator, plan, now)
        view = study_view(tx, study).as_json()
    return JsonAnswer(view, 201)


def index(call: Call) -> Response:
    """List the studies that the credential reaches."""
    with call.coordinator.database.reading("list studies") as tx:
        found = [one for one in stored.read_studies(tx) if call.operator.may("studies.read", one.study, one.owner)]
        return JsonAnswer({"studies": [study_view(tx, study).as_json() for study in found]})


def get(call: Call) -> Response:
    """Return one study."""
    with call.coordinator.database.reading("read a study") as tx:
        return JsonAnswer(study_view(tx, _readable(call, tx)).as_json())


def command(call: Call) -> Response:
    """Start, pause or stop a study."""
    coordinator, study, verb = call.coordinator, call.id("study"), call.path["verb"]
    now, log, by = coordinator.clock.now(), coordinator.log, call.operator
    with coordinator.database.transaction(f"{verb} a study") as tx:
        if verb == "start":
            studies.start(tx, log, by, study, now)
        elif verb == "pause":
            studies.pause(tx, log, by, study, now)
        elif verb == "stop":
            studies.stop(tx, log, coordinator.uploads, by, study, now)
        else:
            raise InputError("route_unknown", f"{verb[:40]!r} is none of start, pause, stop")
        view = study_view(tx, studies.read(tx, study)).as_json()
    return JsonAnswer(view)


async def watch(call: Call) -> Response:
    """Answer with the study as soon as it differs from the cursor."""
    given = call.query("cursor")

    async def look() -> tuple[bool, JsonObject]:
        seen = await run_in_threadpool(_seen, call)
        return seen["cursor"] != given, seen

    try:
        seen = await wait_for_news(call.request, call.coordinator.operators, call.wait_seconds(), look)
    except HungUp:
        return Response(status_code=499)
    return JsonAnswer(seen)


def approve(call: Call) -> Response:
    """Take a steward's approval or withdrawal."""
    coordinator, study = call.coordinator, call.id("study")
    message = statements.open_body(call, "approval")
    return statements.commit(
        call,
        "approve a study",
        message,
        lambda tx, site, signed: studies.approve(tx, coordinator.log, study, site, signed, coordinator.clock.now()),
    )


def put_pairing(call: Call) -> Response:
    """Take a pairing bundle."""
    coordinator, study = call.coordinator, call.id("study")
    message = statements.open_body(call, "pairing")
    return statements.commit(
        call,
        "accept a pairing bundle",
        message,
        lambda tx, site, signed: pairings.accept(
            tx, coordinator.log, coordinator.blobs, study, site, signed, coordinator.clock.now()
        ),
    )


def outcomes(call: Call) -> Response:
    """Return the outcomes after an index, each with the proof that its result stands in the log."""
    coordinator, study = call.coordinator, call.id("study")
    text = call.query("after", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise InputError("number_malformed", f"after {text[:40]!r} is not a number")
    coordinator.log.sign_checkpoint(coordinator.database)  # so that every outcome shown has a checkpoint over it
    with coordinator.database.reading("read outcomes") as tx:
        found = studies.read(tx, study)
        if call.site.site not in found.plan.sites:
            raise InputError("study_unknown", f"there is no study {study!r} for {call.site.site}")
        shown = []
        for round_ in rounds.read_outcomes(tx, study, int(text), _OUTCOMES_AT_ONCE):
            inclusion = coordinator.log.inclusion(tx, round_.log_index or 0)
            if inclusion is None and coordinator.log.hold is not None:
                raise Unavailable("log_held", coordinator.log.hold.detail)
            if inclusion is None or round_.outcome is None:
                raise Misuse("log_node_missing", f"outcome {round_.outcome_index} of {study} is not under a checkpoint")
            shown.append(
                PublishedOutcome(
                    index=round_.outcome_index or 0,
                    ctx=round_.ctx,
                    outcome=round_.outcome,
                    inclusion=inclusion.as_json(),
                    attestations={
                        site: b64u(envelope)
                        for site, envelope in rounds.read_attestations(tx, round_.ctx_hash or "").items()
                    },
                ).as_json()
            )
    return JsonAnswer({"outcomes": shown})


def _check_sender(call: Call, sha256: str) -> None:
    """Let nobody take up a blob by its digest alone: it may be the model of another researcher's study."""
    operator = call.operator.operator
    with call.coordinator.database.reading("find a model's studies") as tx:
        is_own = any(study.owner == operator for study in stored.read_blob_studies(tx, sha256))
    if not is_own and (operator, sha256) not in call.coordinator.senders:
        raise InputError("initial_model_missing", f"upload the model {sha256} first")


def _readable(call: Call, tx: Transaction) -> Study:
    found = studies.read(tx, call.id("study"))
    call.operator.check_on("studies.read", found.study, found.owner)
    return found


def _seen(call: Call) -> JsonObject:
    with call.coordinator.database.reading("watch a study") as tx:
        study = _readable(call, tx)
        view = study_view(tx, study).as_json()
        doing = what_sites_do(tx, study, call.coordinator.presence, call.coordinator.clock)
    # The cursor means something to this process's answers only, so it needs no canonical form.
    cursor = sha256_hex(json.dumps([view, doing], sort_keys=True).encode())
    return {"cursor": cursor, "study": view, "sites": doing}
