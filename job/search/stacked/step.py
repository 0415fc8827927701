"""A stack of learners and one step of all of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call, vmap

from job.device import Compute
from job.device.precision import DTYPES, HALVES, full
from job.engine.augmentation import Batch, augmentation, augmented
from job.engine.schedule import Schedule
from job.engine.step import inputs_of
from job.search.stacked.architecture import Architecture
from job.search.stacked.draws import Draws
from job.search.stacked.optimizers import optimizer_step
from job.search.stacked.repeated import Repeated
from job.search.stacked.state import Part, State


class Stack:
    """Learners that train together: row k of `state` is learner k, a part of the run at a rate of its own, constant or
    a schedule's (see `engine.schedule.planned`).
    """

    def __init__(
        self,
        kind: Architecture,
        compute: Compute,
        seed: int,
        learners: Sequence[tuple[Part, float | Schedule]],
        state: State,
    ) -> None:
        self.kind = kind
        self.compute = compute
        self.seed = seed
        self.parts = tuple(part for part, _ in learners)
        self.state = state
        self.plans = tuple(plan for _, plan in learners)
        rates = [plan.peak if isinstance(plan, Schedule) else plan for plan in self.plans]
        self.rates = torch.tensor(rates, dtype=compute.param_dtype)[:, None].to(compute.device)  # [learners, 1]
        self.update = torch.zeros_like(state.weights)  # Adam's step at the rate 1; zeros between two steps
        self.augmentation = augmentation(kind.recipe, compute.device, len(learners))
        self.full_step: Repeated | None = Repeated() if compute.on_gpu else None

    @property
    def note(self) -> str:
        """Why its steps are as they are written where they should be replayed; mostly empty."""
        return f"eager steps: {self.full_step.fault}" if self.full_step is not None and self.full_step.fault else ""


def forward(stack: Stack, weights: dict[str, Tensor], bits: Tensor | None, images: Tensor, shared: bool) -> Tensor:
    """Logits, `param_dtype` `[learners, batch, classes]`.

    `images` are normalised, `[learners, batch, 3, 32, 32]`, or where `shared` the same `[batch, 3, 32, 32]` for all.
    """
    half = DTYPES[stack.compute.precision] if stack.compute.precision in HALVES else None

    def one(weights: dict[str, Tensor], buffers: dict[str, Tensor], bits: Tensor | None, images: Tensor) -> Tensor:
        draws.bits, draws.taken = bits, 0
        logits: Tensor = functional_call(stack.kind.model, (weights, buffers), (images,))
        return logits

    with (
        # No cache of cast weights: each is used once a pass, and a captured graph must not read another one's copies.
        torch.autocast(stack.compute.device.type, dtype=half, enabled=half is not None, cache_enabled=False),
        Draws(half) as draws,
    ):
        dims = (0, 0, None if bits is None else 0, None if shared else 0)
        # Randomness that is not dropout would be shared by the learners: vmap raises.
        logits: Tensor = vmap(one, in_dims=dims, randomness="error")(weights, stack.state.buffers, bits, images)
    return full(logits)


def train_step(stack: Stack, images: Tensor, labels: Tensor, rows: Tensor, bits: Tensor) -> tuple[Tensor, Tensor]:
    """One step of every learner's optimizer on its own batch.

    `images`: uint8 `[learners, batch, 32, 32, 3]`; `labels`, and `rows`, the images' numbers in their split: int64
    `[learners, batch]`; `bits`: int16 `[learners, draws]`. Returns mean losses and counts of right answers before the
    step, `[learners]`, on the device.
    """
    how, flat = stack.augmentation, (images.flatten(0, 1), labels.flatten())
    batch = Batch(*flat) if how is None else augmented(how, *flat, rows.flatten())
    inputs = inputs_of(batch, stack.compute)
    inputs = inputs.view(*labels.shape, *inputs.shape[1:])  # [learners, batch, 3, 32, 32]
    state = stack.state
    weights = {name: view.detach().requires_grad_() for name, view in stack.kind.views(state.weights).items()}
    logits = forward(stack, weights, bits, inputs, shared=False)
    losses = stack.kind.criterion.of_each(logits.flatten(0, 1), batch).view_as(labels).mean(1)
    # The gradient of the sum: a learner's loss depends on its own weights alone.
    parts = torch.autograd.grad(losses.sum(), tuple(weights.values()), allow_unused=True, materialize_grads=True)
    gradients = torch.cat([part.flatten(1) if part.dim() > 1 else part[:, None] for part in parts], dim=1)
    with torch.no_grad():
        optimizer_step(stack.kind, state, stack.update, gradients, stack.rates)
    return losses.detach(), (logits.detach().argmax(dim=2) == batch.judged.view_as(labels)).sum(dim=1)
