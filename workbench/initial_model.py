"""The first model version of a study: the researcher builds it from the plan, so no site or coordinator has a say."""

from dataclasses import dataclass

from shared.model_state import digest, layout_of, to_bytes
from shared.protocol.study import Plan


@dataclass(frozen=True)
class InitialModel:
    """Canonical safetensors bytes, their digest and the number of weights: what the plan names."""

    raw: bytes
    digest: str
    dimension: int


def build_initial_model(plan: Plan) -> InitialModel:
    """Return the first model version for the plan's task and seed; the plan need not name it yet.

    Raises:
        InputError: ``task_invalid``.
    """
    # torch takes seconds to import; commands that build no model do not pay for it.
    import torch

    from shared.tasks.registry import build_model
    from shared.tasks.weights import state_of

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.training.seed)
        state = state_of(build_model(plan.task))
    raw = to_bytes(state)
    return InitialModel(raw, digest(raw), layout_of(state).size)
