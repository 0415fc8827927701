"""What learns: a model with its optimizer, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from job.device import Compute, flat
from job.device.optimizers import follow
from job.device.track import Judging, Recorded
from job.engine.augmentation import Augmentation, augmentation
from job.engine.build import recipe_of
from job.engine.criterion import Criterion, criterion_of
from job.engine.schedule import Schedule
from job.results import Epoch, Paused
from job.seeds import seed_for


@dataclass
class Learner:
    """What learns: a model with its optimizer. `part` names its place in the run, e.g. `("trial", 3)`, and seeds it.

    `pieces` are the model's weights where they are one row (see `device.flat`): what the optimizer sees. `recorded` are
    its steps as CUDA graphs and `judging` is its evaluation, once there are any; they hold for these very tensors.
    `note` says why they are eager where the run's are not (see `fall_back`). Under a recipe with a schedule `rate` is
    the tensor that the optimizer reads, `[]` in `param_dtype`, and `schedule` what sets it.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    compute: Compute
    seed: int
    part: tuple[str | int, ...]
    criterion: Criterion = field(default_factory=Criterion)
    augmentation: Augmentation | None = None
    schedule: Schedule | None = None
    rate: Tensor | None = None
    pieces: tuple[flat.Piece, ...] = ()
    recorded: Recorded | None = None
    judging: Judging | None = None
    note: str = ""

    def weights(self) -> dict[str, Tensor]:
        """Of a forward pass, by name: those of `pieces`, in half precision where products take them; else none."""
        return flat.views(self.pieces)

    def answer(self, inputs: Tensor, weights: dict[str, Tensor]) -> Tensor:
        """Logits `[batch, classes]` of images `[batch, 3, side, side]`, with the learner's `weights`."""
        with self.compute.autocast():
            logits: Tensor = flat.run(self.model, weights, inputs) if weights else self.model(inputs)
        return logits


def new_model(build: Callable[[], nn.Module], seed: int, part: tuple[str | int, ...]) -> nn.Module:
    """The model that a part starts with. Weights are drawn on the CPU, so that every device starts from the same."""
    torch.manual_seed(seed_for(seed, *part, "weights"))
    return build()


def new_learner(
    build: Callable[[], nn.Module],
    learning_rate: float | Schedule,
    compute: Compute,
    seed: int,
    part: tuple[str | int, ...],
) -> Learner:
    """A fresh model and the optimizer of its recipe; under one with a schedule a plain number is a constant rate."""
    recipe = recipe_of(build)
    peak = learning_rate.peak if isinstance(learning_rate, Schedule) else learning_rate
    model = compute.place(new_model(build, seed, part))
    pieces = compute.pieces(model, recipe)
    like = torch.empty(0, dtype=compute.param_dtype, device=compute.device)
    optimizer = compute.optimizer(model, recipe, peak, pieces)
    learner = Learner(model, optimizer, compute.scaler(), compute, seed, part, pieces=pieces)
    learner.criterion = criterion_of(build, like)
    learner.augmentation = augmentation(recipe, compute.device)
    if recipe.scheduled:
        learner.schedule = learning_rate if isinstance(learning_rate, Schedule) else None
        learner.rate = like.new_full((), peak)
        follow(learner.optimizer, learner.rate)
    return learner


def fall_back(learner: Learner, why: str) -> None:
    """Eager steps from here on, also where somebody goes on from a snapshot. A recording that failed may have left the
    scaler in the middle of a step.
    """
    learner.note = f"eager steps: {why}"
    learner.compute = replace(learner.compute, step="eager")
    scale = learner.scaler.state_dict()
    learner.scaler = learner.compute.scaler()
    learner.scaler.load_state_dict(scale)


def snapshot(learner: Learner) -> dict[str, Any]:
    """A copy on the CPU of everything that the next epoch depends on; strides are kept."""
    return {
        "model": on_cpu(learner.model.state_dict()),
        "optimizer": on_cpu(learner.optimizer.state_dict()),
        "scaler": on_cpu(learner.scaler.state_dict()),
        **({"note": learner.note} if learner.note else {}),
    }


def restore(learner: Learner, state: dict[str, Any]) -> None:
    """Sets a fresh learner to what `snapshot` copied."""
    learner.model.load_state_dict(state["model"])
    learner.optimizer.load_state_dict(state["optimizer"])
    if learner.rate is not None:
        follow(learner.optimizer, learner.rate)  # which a step's number sets, not a state
    learner.scaler.load_state_dict(state["scaler"])
    learner.recorded = learner.judging = None  # its tensors are others now
    if "note" in state:
        learner.note = state["note"]
        learner.compute = replace(learner.compute, step="eager")


def resume(learner: Learner, paused: Paused | None) -> list[Epoch]:
    """Sets a fresh learner to where an earlier attempt left it; returns its epochs so far, if any."""
    if paused is None:
        return []
    restore(learner, paused.learner)
    return list(paused.history)


def on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return [on_cpu(item) for item in value] if isinstance(value, list) else value
