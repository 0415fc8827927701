"""What learns: a model with its optimizer, and its state as plain tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from job.device import Compute
from job.device.graphs import Recorded
from job.results import Epoch
from job.seeds import seed_for


@dataclass
class Learner:
    """What learns: a model with its optimizer. `part` names its place in the run, e.g. `("trial", 3)`, and seeds it.

    `recorded` are its steps as CUDA graphs, once there are any; they hold for these very tensors. `fallback` says why
    they could not be recorded where that failed: then `compute` is no longer the run's, its steps are eager.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    compute: Compute
    seed: int
    part: tuple[str | int, ...]
    recorded: Recorded | None = None
    fallback: str = ""


@dataclass(frozen=True)
class Paused:
    """A part of a run that an earlier attempt began: its epochs so far and the learner after the last of them."""

    history: tuple[Epoch, ...]
    learner: dict[str, Any]


def new_model(build: Callable[[], nn.Module], seed: int, part: tuple[str | int, ...]) -> nn.Module:
    """The model that a part starts with. Weights are drawn on the CPU, so that every device starts from the same."""
    torch.manual_seed(seed_for(seed, *part, "weights"))
    return build()


def new_learner(
    build: Callable[[], nn.Module], learning_rate: float, compute: Compute, seed: int, part: tuple[str | int, ...]
) -> Learner:
    """A fresh model and Adam."""
    model = compute.place(new_model(build, seed, part))
    return Learner(model, compute.adam(model, learning_rate), compute.scaler(), compute, seed, part)


def snapshot(learner: Learner) -> dict[str, Any]:
    """A copy on the CPU of everything that the next epoch depends on; strides are kept."""
    return {
        "model": on_cpu(learner.model.state_dict()),
        "optimizer": on_cpu(learner.optimizer.state_dict()),
        "scaler": on_cpu(learner.scaler.state_dict()),
    }


def restore(learner: Learner, state: dict[str, Any]) -> None:
    """Sets a fresh learner to what `snapshot` copied."""
    learner.model.load_state_dict(state["model"])
    learner.optimizer.load_state_dict(state["optimizer"])
    learner.scaler.load_state_dict(state["scaler"])
    learner.recorded = None  # its tensors are others now


def on_cpu(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: on_cpu(item) for key, item in value.items()}
    return [on_cpu(item) for item in value] if isinstance(value, list) else value
