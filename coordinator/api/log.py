"""The log as sites and auditors read it."""

from starlette.responses import Response

from coordinator.api.call import Call, JsonAnswer
from shared.errors import Unavailable


def checkpoint(call: Call) -> Response:
    """Return the newest signed checkpoint, as text."""
    coordinator = call.coordinator
    note = coordinator.log.sign_checkpoint(coordinator.database)
    if note is None:
        raise Unavailable("log_empty", "the log has no entries yet")
    return Response(note, media_type="text/plain; charset=utf-8")


def live(_call: Call) -> Response:
    """Say that the process answers."""
    return JsonAnswer({"live": True})


def ready(call: Call) -> Response:
    """Say that the database answers too."""
    with call.coordinator.database.reading("check readiness") as tx:
        tx.value("SELECT size FROM log_head")
    return JsonAnswer({"ready": True, "federation": call.coordinator.federation})
