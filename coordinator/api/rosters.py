"""Rosters: agents read and approve them, administrators propose them."""

from starlette.responses import Response

from coordinator import rosters
from coordinator.api import statements
from coordinator.api.call import Call, JsonAnswer
from coordinator.storage import rosters as stored
from coordinator.storage.rosters import StoredRoster
from shared.canonical import JsonObject, hash_bytes
from shared.crypto.fingerprint import hash_fingerprint


def get(call: Call) -> Response:
    """Return a version and the approvals it has so far."""
    with call.coordinator.database.reading("read a roster") as tx:
        return JsonAnswer(rosters.bundle(tx, call.number("version")).as_json())


def approve(call: Call) -> Response:
    """Take a site's approval."""
    coordinator, version = call.coordinator, call.number("version")
    message = statements.open_body(call, "approval", in_roster=False)
    return statements.commit(
        call,
        "approve a roster",
        message,
        lambda tx, site, signed: rosters.approve(tx, coordinator.log, version, site, signed, coordinator.clock.now()),
    )


def index(call: Call) -> Response:
    """List all versions."""
    with call.coordinator.database.reading("list rosters") as tx:
        found = [_view(one, sorted(stored.read_approvals(tx, one.version))) for one in stored.read_rosters(tx)]
    return JsonAnswer({"rosters": found})


def propose(call: Call) -> Response:
    """Propose the next version from all approved sites."""
    coordinator = call.coordinator
    given = call.json(c=int)
    with coordinator.database.transaction("propose a roster") as tx:
        now = coordinator.clock.now()
        found = rosters.propose(
            tx, coordinator.log, coordinator.keys, call.operator, coordinator.federation, given["c"], now
        )
    return JsonAnswer(_view(found, []), 201)


def _view(roster: StoredRoster, approved_by: list[str]) -> JsonObject:
    return {
        "version": roster.version,
        "roster_hash": roster.roster_hash,
        "fingerprint": hash_fingerprint(hash_bytes(roster.roster_hash)),
        "state": roster.state,
        "c": roster.roster["c"],
        "sites": roster.site_ids,
        "approved_by": approved_by,
        "proposed_at": roster.proposed_at,
        "activated_at": roster.activated_at,
    }
