"""One step of the recipe's optimizer for all learners of a stack, each at its own rate."""

from __future__ import annotations

from torch import Tensor
from torch.optim.adam import adam

from job.device.optimizers import MOMENTUM
from job.search.stacked.architecture import Architecture
from job.search.stacked.state import State


def optimizer_step(kind: Architecture, state: State, update: Tensor, gradients: Tensor, rates: Tensor) -> None:
    """As `device.optimizers.optimizer_of` would take it for each learner alone. `gradients` are used up.

    `gradients` and `update`: `[learners, parameters]`; `rates`: `[learners, 1]`.
    """
    decoupled = kind.recipe.optimizer == "adamw"
    if kind.decay is not None and decoupled:
        state.weights.mul_(1 - rates * kind.decay)
    elif kind.decay is not None:
        gradients.addcmul_(state.weights, kind.decay)
    if kind.squares:
        adam_step(state, update, gradients, rates)
    else:
        nesterov_step(state, gradients, rates)


def adam_step(state: State, update: Tensor, gradients: Tensor, rates: Tensor) -> None:
    """Adam for every learner at its own rate, in one call of torch's fused kernel.

    The kernel takes one rate for all, and Adam's step is proportional to it: so it moves zeros at the rate 1, a row a
    learner with its own count of steps, and the weights move by that times their rate. `update` holds these zeros.
    """
    adam(
        list(update),
        list(gradients),
        list(state.mean),
        list(state.square),
        [],
        list(state.steps),
        fused=True,
        amsgrad=False,
        beta1=0.9,
        beta2=0.999,
        lr=1.0,
        weight_decay=0.0,
        eps=1e-8,
        maximize=False,
    )
    state.weights.addcmul_(update, rates)
    update.zero_()


def nesterov_step(state: State, gradients: Tensor, rates: Tensor) -> None:
    """SGD with Nesterov momentum as torch has it (Sutskever et al., ICML 2013)."""
    state.mean.mul_(MOMENTUM).add_(gradients)
    gradients.add_(state.mean, alpha=MOMENTUM)
    state.weights.addcmul_(gradients, -rates)
    state.steps.add_(1)
