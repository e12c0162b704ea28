"""The end of a site's chain of signed messages, and resets of sites that lost state."""

from starlette.responses import Response

from coordinator import state_resets, statements
from coordinator.api import statements as signed
from coordinator.api.call import Call, JsonAnswer
from shared.errors import InputError

_HIGHEST = 2**53 - 1


def last_accepted(call: Call) -> Response:
    """Return a site's last accepted message, and its acts after a number."""
    site = call.id("site")
    statements.check_path(call.site, site)
    after = call.query("after", "0")
    if not after.isascii() or not after.isdigit() or len(after) > 16 or int(after) > _HIGHEST:
        raise InputError("number_malformed", f"after {after[:40]!r} is not a sequence number")
    with call.coordinator.database.reading("read the end of a chain") as tx:
        return JsonAnswer(state_resets.last_accepted(tx, site, int(after)).as_json())


def reset(call: Call) -> Response:
    """Take the word of a site that it lost state and starts afresh."""
    coordinator = call.coordinator
    message = signed.open_body(call, "state.reset")
    return signed.commit(
        call,
        "accept a reset",
        message,
        lambda tx, site, body: state_resets.accept(
            tx, coordinator.log, coordinator.uploads, coordinator.presence, site, body, coordinator.clock.now(),
            holder_is_here=coordinator.holders.is_here(site.site, coordinator.clock.now()),
        ),
    )  # fmt: skip
