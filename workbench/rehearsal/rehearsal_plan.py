"""A whole study protocol around the proposed settings of a data set, for rehearsals that submit nothing."""

from collections.abc import Sequence

from shared.canonical import JsonObject
from shared.protocol.study import Plan
from workbench.initial_model import build_initial_model

_NOT_BUILT_YET = "0" * 64


def rehearsal_plan(settings: JsonObject, sites: Sequence[str]) -> Plan:
    """Return a plan for `sites` with the first model version that belongs to it.

    Raises:
        PeerFault: ``message_malformed`` for settings out of form.
        InputError: ``task_invalid``.
    """
    draft = Plan.check(
        {
            "v": "SA1",
            "kind": "study",
            "study": "rehearsal",
            "title": "Rehearsal",
            "purpose": "To see what the federation would learn",
            "federation": "rehearsal",
            "sites": sorted(sites),
            "dp": None,
            "initial_model": _NOT_BUILT_YET,
            "dimension": 1,
            "not_after": "2100-01-01T00:00:00Z",
            **settings,
        }
    )
    model = build_initial_model(draft)
    return Plan.check({**draft.as_json(), "initial_model": model.digest, "dimension": model.dimension})
