"""Between a network and a model state: named float32 arrays, the same names in the same order everywhere."""

import torch
from torch import nn

from shared.errors import Misuse
from shared.model_state import Array, ModelState, check_same_layout, layout_of


def state_of(model: nn.Module) -> dict[str, Array]:
    """Return copies of a network's weights.

    Raises:
        Misuse: ``model_layout_differs`` for a network with buffers: they would not be averaged.
    """
    buffers = [name for name, _ in model.named_buffers()]
    if buffers:
        raise Misuse("model_layout_differs", f"the network keeps {buffers[0]} outside its weights")
    return {name: weight.detach().cpu().numpy().astype("float32") for name, weight in model.named_parameters()}


def load_into(model: nn.Module, state: ModelState) -> None:
    """Put a model state into a network.

    Raises:
        Misuse: ``model_layout_differs`` names the first difference.
    """
    check_same_layout(layout_of(state_of(model)), layout_of(state))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(torch.from_numpy(state[name].copy()))
