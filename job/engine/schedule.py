"""The learning rate as a function of the step's number: linear warm-up, then half a cosine to zero.

Goyal et al., 2017, https://arxiv.org/abs/1706.02677 (warm-up); Loshchilov and Hutter, 2016,
https://arxiv.org/abs/1608.03983 (cosine).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from job.models import Recipe

WARM_UP = 0.05  # of the steps


def share(step: int, steps: int) -> float:
    """What step number `step` (from 0) of `steps` takes of the peak rate: above 0 to 1, and exactly 1 at the peak."""
    warm = math.ceil(WARM_UP * steps)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm) / (steps + 1 - warm)))


@dataclass(frozen=True)
class Schedule:
    """A training of so many epochs, whose rate rises to `peak` and falls to zero."""

    peak: float
    epochs: int

    def rates(self, epoch: int, steps: int) -> list[float]:
        """The rates of an epoch (from 1) that has so many steps."""
        first = (epoch - 1) * steps
        return [self.peak * share(step, self.epochs * steps) for step in range(first, first + steps)]


def sampled(plan: Schedule, steps: int, points: int = 200) -> tuple[tuple[float, float], ...]:
    """Points of a curve: epochs gone by (each has so many steps) and the rate of the next step."""
    whole = plan.epochs * steps
    numbers = sorted({round(k * (whole - 1) / (points - 1)) for k in range(points)} | {math.ceil(WARM_UP * whole) - 1})
    return tuple((number / steps, plan.peak * share(number, whole)) for number in numbers)


def planned(recipe: Recipe, learning_rate: float, epochs: int) -> float | Schedule:
    """The rate of a training of so many epochs under this recipe: constant, or a schedule with this peak."""
    return Schedule(learning_rate, epochs) if recipe.scheduled else learning_rate


def paced(rate: Tensor, rates: Sequence[float], on_batch: Callable[[int], object]) -> Callable[[int], object]:
    """Sets `rate` to the first of `rates` now, and to the next one after each batch.

    The host does it between two steps, eager or replayed: no number has to come from the device for that.
    """
    following = iter(rates)
    rate.fill_(next(following))

    def after_batch(images: int) -> object:
        now = next(following, None)
        if now is not None:
            rate.fill_(now)
        return on_batch(images)

    return after_batch
