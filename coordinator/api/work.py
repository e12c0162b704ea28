"""``GET /v1/agent/poll``: the lease, the commands, the wait."""

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from coordinator import work
from coordinator.api.call import Call
from coordinator.api.polling import HungUp, wait_for_news
from coordinator.sites import check_active, take_lease
from shared.canonical import canonical_bytes, sha256_hex
from shared.clock import timestamp
from shared.errors import InputError, Refusal
from shared.protocol.work import Command, PollAnswer, cursor_of

_LONGEST_INSTANCE = 64


async def poll(call: Call) -> Response:
    """Answer with the site's commands, at once when they hold something the cursor does not stand for."""
    coordinator, site = call.coordinator, call.site.site
    await run_in_threadpool(_check_lease, call)
    given = call.query("cursor")
    told_cursor, told = coordinator.told.get(site, ("", frozenset()))

    async def look() -> tuple[bool, tuple[list[Command], str]]:
        commands = await run_in_threadpool(_commands, call)
        cursor = cursor_of(commands)
        if cursor == given:
            return False, (commands, cursor)
        # A command that only went away is nothing to wake an agent for; it learns of it with the next news.
        is_new = told_cursor != given or not _digests(commands) <= told
        return is_new, (commands, cursor)

    try:
        commands, cursor = await wait_for_news(call.request, coordinator.agents, call.wait_seconds(), look)
    except HungUp:
        coordinator.lost(site)
        return Response(status_code=499)
    coordinator.saw(site)
    coordinator.told[site] = (cursor, _digests(commands))
    stopping = coordinator.agents.stopping
    answer = PollAnswer(
        v="SA1",
        action="sleep" if stopping else "work",
        sleep_seconds=1 if stopping else 0,
        reason="the coordinator is restarting" if stopping else None,
        cursor=cursor,
        time=timestamp(coordinator.clock.now()),
        commands=commands,
    )
    return Response(answer.canonical(), media_type="application/json")


def _check_lease(call: Call) -> None:
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    instance, previous = call.query("instance"), call.query("previous")
    if not 1 <= len(instance) <= _LONGEST_INSTANCE or len(previous) > _LONGEST_INSTANCE or not instance.isascii():
        raise InputError("field_invalid", "instance is missing or too long")
    with coordinator.database.reading("look at a lease") as tx:
        if check_active(tx, call.site, coordinator.federation, now).instance == instance:
            coordinator.holders.saw(call.site.site, now)
            return
    # A lease costs a commit and a conflict an entry: who comes with ever new instances has to slow down.
    coordinator.limits.take("instance", call.site.site, now)
    with coordinator.database.transaction("take a lease") as tx:
        site = check_active(tx, call.site, coordinator.federation, now)
        is_holder = take_lease(tx, coordinator.log, site, instance, previous, now)
    if not is_holder:
        raise Refusal("instance_conflict", f"another agent holds the lease of {call.site.site}")
    coordinator.holders.saw(call.site.site, now)


def _commands(call: Call) -> list[Command]:
    coordinator, now = call.coordinator, call.coordinator.clock.now()
    with coordinator.database.reading("derive commands") as tx:
        check_active(tx, call.site, coordinator.federation, now)
        return work.commands(tx, call.site.site, now) + coordinator.witnesses.commands(tx, call.site.site)


def _digests(commands: list[Command]) -> frozenset[str]:
    return frozenset(sha256_hex(canonical_bytes(command.as_json())) for command in commands)
