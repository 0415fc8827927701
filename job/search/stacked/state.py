"""Everything that the next epoch of some learners depends on, and how it is made, joined, copied and put back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from job.device import Compute
from job.engine.learner import new_model, on_cpu
from job.search.stacked.architecture import Architecture

Part = tuple[str | int, ...]


@dataclass(frozen=True)
class State:
    """Everything that the next epoch of some learners depends on; the first dimension of each tensor is the learner.

    `weights`, and Adam's running `mean` and `square` of the gradients: `param_dtype` `[learners, parameters]`, a
    learner's parameters one after the other; under SGD `mean` is the momentum, and `square` `[learners, 0]`. `steps`:
    float32 `[learners]`; `buffers`: e.g. batch norm's, by name.
    """

    weights: Tensor
    mean: Tensor
    square: Tensor
    steps: Tensor
    buffers: dict[str, Tensor]

    def __len__(self) -> int:
        return len(self.steps)

    def map(self, change: Callable[[Tensor], Tensor]) -> State:
        buffers = {name: change(buffer) for name, buffer in self.buffers.items()}
        return State(change(self.weights), change(self.mean), change(self.square), change(self.steps), buffers)

    def rows(self, numbers: Sequence[int]) -> State:
        """A copy of these learners, in this order."""
        return self.map(lambda tensor: tensor[torch.tensor(numbers, dtype=torch.int64, device=tensor.device)])


def joined(states: Sequence[State]) -> State:
    """The learners of all `states`, one after the other."""
    return State(
        torch.cat([state.weights for state in states]),
        torch.cat([state.mean for state in states]),
        torch.cat([state.square for state in states]),
        torch.cat([state.steps for state in states]),
        {name: torch.cat([state.buffers[name] for state in states]) for name in states[0].buffers},
    )


def snapshot(state: State) -> dict[str, Any]:
    """A copy on the CPU, as a checkpoint keeps it."""
    copied: dict[str, Any] = on_cpu(vars(state))
    return copied


def restored(copied: dict[str, Any], compute: Compute) -> State:
    """What `snapshot` copied, on the device."""
    return State(**copied).map(lambda tensor: tensor.to(compute.device))


def fresh(build: Callable[[], nn.Module], kind: Architecture, compute: Compute, seed: int, part: Part) -> State:
    """One new learner: the very weights that `engine.new_learner` draws for this part."""
    model = compute.cast(new_model(build, seed, part))
    named = dict(model.named_parameters()) | dict(model.named_buffers())
    weights = torch.cat([named[name].detach().flatten() for name in kind.shapes])[None]
    buffers = {name: tensor.detach()[None].clone() for name, tensor in named.items() if name not in kind.shapes}
    square = torch.zeros_like(weights) if kind.squares else weights.new_zeros(1, 0)
    state = State(weights, torch.zeros_like(weights), square, torch.zeros(1), buffers)
    return state.map(lambda tensor: tensor.to(compute.device))
