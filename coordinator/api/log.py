"""The log as sites, operators and auditors read it, and the witnesses' cosignatures."""

from dataclasses import asdict

from starlette.responses import Response

from coordinator import statements as rules
from coordinator.api.call import Call, JsonAnswer
from coordinator.storage import log as stored
from coordinator.storage import rosters
from coordinator.witnesses import cosigned_heads, finality, newest_head
from shared.errors import InputError, PeerFault, Unavailable
from shared.protocol.log import CosignedHeads

MOST_ENTRIES = 1024
_MOST_BYTES = 4 * 2**20


def checkpoint(call: Call) -> Response:
    """Return the newest signed checkpoint with the cosignatures it has so far, as text."""
    coordinator = call.coordinator
    coordinator.log.sign_checkpoint(coordinator.database)
    with coordinator.database.reading("read the newest head") as tx:
        note = newest_head(tx)
    if note is None:
        raise Unavailable("log_empty", "the log has no entries yet")
    return Response(note, media_type="text/plain; charset=utf-8")


def entries(call: Call) -> Response:
    """Return entries under the newest checkpoint, as C2SP entry bundles have them: two bytes of length before each."""
    start, end = call.number("start"), call.number("end")
    with call.coordinator.database.reading("read entries") as tx:
        newest = stored.read_newest_note(tx)
        size = 0 if newest is None else newest.size
        if not start < end <= size:
            raise InputError("log_range", f"entries {start} to {end} of {size}")
        found = stored.read_leaves(tx, start, min(end, start + MOST_ENTRIES))
    bundle = bytearray()
    for leaf in found:
        bundle += len(leaf.leaf).to_bytes(2, "big") + leaf.leaf
        if len(bundle) > _MOST_BYTES:
            break
    return Response(bytes(bundle), media_type="application/octet-stream")


def cosignatures(call: Call) -> Response:
    """Return the newest head that each witness cosigned."""
    with call.coordinator.database.reading("read cosigned heads") as tx:
        return JsonAnswer(CosignedHeads(heads=cosigned_heads(tx)).as_json())


def put_cosignature(call: Call) -> Response:
    """Take the head that a witness cosigned: the log's note with the site's line."""
    rules.check_path(call.site, call.id("site"))
    try:
        note = call.body.decode()
    except UnicodeDecodeError:
        raise PeerFault("checkpoint_malformed", "the note is not UTF-8") from None
    coordinator = call.coordinator
    was_held = coordinator.log.hold is not None
    final = coordinator.witnesses.accept(coordinator.database, call.site.site, call.number("size"), note)
    if was_held and coordinator.log.hold is None:
        coordinator.driver.nudge_running()
    return JsonAnswer({"final": final})


def witnesses(call: Call) -> Response:
    """Say how far the log is final, and what each witness cosigned."""
    coordinator = call.coordinator
    hold = coordinator.log.hold
    with coordinator.database.reading("read finality") as tx:
        active = rosters.read_active(tx)
        found = None if active is None else finality(tx, active)
    held = None if hold is None else {"code": hold.code, "detail": hold.detail}
    return JsonAnswer({"held": held, "log": None if found is None else asdict(found)})


def live(_call: Call) -> Response:
    """Say that the process answers."""
    return JsonAnswer({"live": True})


def ready(call: Call) -> Response:
    """Say that the database answers too."""
    with call.coordinator.database.reading("check readiness") as tx:
        tx.value("SELECT size FROM log_head")
    return JsonAnswer({"ready": True, "federation": call.coordinator.federation})
