"""What a site does with a model in one round: local passes over its training cases. A plain function."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from shared.model_state import Array, Layout, ModelState, flatten, layout_of
from shared.protocol.study import Training
from shared.tasks.task import Task, case_losses
from shared.tasks.weights import load_into, state_of

Progress = Callable[[int, int], None]  # steps done, steps in all


def local_steps(
    model: nn.Module,
    received: ModelState,
    *,
    task: Task,
    inputs: Tensor,
    labels: Tensor,
    training: Training,
    seed: int,
    progress: Progress | None = None,
) -> ModelState:
    """Return the model state after ``training.local_epochs`` passes from the `received` one.

    The optimizer starts afresh; the order of the cases and every random change of them follow `seed` alone: on a CPU
    the same arguments give the same bits. Inputs and labels lie on the device of `model`.
    """
    load_into(model, received)
    cases = len(labels)
    if not cases:
        return state_of(model)
    model.train()
    generator = torch.Generator().manual_seed(seed)
    optimizer = build_optimizer(model, training)
    batch = cases if training.batch_size == 0 else min(training.batch_size, cases)
    steps = training.local_epochs * -(-cases // batch)
    done = 0
    for _ in range(training.local_epochs):
        # With everything in one batch the order does not matter.
        order = torch.arange(cases) if batch == cases else torch.randperm(cases, generator=generator)
        for start in range(0, cases, batch):
            picked = order[start : start + batch].to(inputs.device)
            batch_inputs = inputs[picked]
            if training.augmentation:
                batch_inputs = task.augmented(batch_inputs, training.augmentation, generator)
            optimizer.zero_grad()
            case_losses(model(batch_inputs), labels[picked]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += 1
            if progress is not None:
                progress(done, steps)
    return state_of(model)


def build_optimizer(model: nn.Module, training: Training) -> torch.optim.Optimizer:
    """Return the optimizer a plan names, fresh."""
    rate, decay = float(training.learning_rate), float(training.weight_decay)
    if training.optimizer == "adam":
        return torch.optim.Adam(model.parameters(), lr=rate, weight_decay=decay)
    return torch.optim.SGD(model.parameters(), lr=rate, momentum=float(training.momentum), weight_decay=decay)


def update_of(received: ModelState, trained: ModelState) -> tuple[Layout, Array]:
    """Return the layout and the flat update, new minus received, float32."""
    layout = layout_of(received)
    return layout, flatten(layout, trained) - flatten(layout, received)
