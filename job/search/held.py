"""The states of trials that wait at a rung of successive halving, in memory.

Only the best third of a rung goes on, so that no more than a third is ever held, in memory that is free. What does not
fit, and what a kill has taken, is computed again from the trial's seed when it goes on: to the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from job.console.logs import event
from job.device.memory import free_memory
from job.results import Paused, Trial
from job.search.rungs import outlook
from job.search.trial import Order, Rung

SHARE = 0.25  # of the memory that is free when the first state comes
MEBI = 1 << 20


class Held:
    """The states that one runner holds. `room` is bytes in all; None takes a share of the memory that is free."""

    def __init__(self, room: int | None = None) -> None:
        self._room = room
        self._held: dict[int, tuple[float, Paused]] = {}
        self._told = False

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, orders: Sequence[Order]) -> None:
        """A rung begins: what is held of trials that do not go on is given up."""
        numbers = {order.number for order in orders}
        self._held = {number: entry for number, entry in self._held.items() if number in numbers}

    def resumed(self, order: Order) -> Order:
        """The order with the state that its trial waits in, which is held no longer."""
        _, paused = self._held.pop(order.number, (0.0, None))
        further = paused is not None and (order.paused is None or len(paused.history) > len(order.paused.history))
        return replace(order, paused=paused) if further else order

    def offer(self, rung: Rung, trial: Trial, take: Callable[[], dict[str, Any]]) -> None:
        """Holds what `take` copies of a trial that waits at `rung`, while it is among those that may go on."""
        mine = outlook(trial, rung.epochs)
        better = sum((its, number) < (mine, trial.number) for number, (its, _) in self._at(rung))
        if better >= rung.places:
            return
        for number, _ in sorted(self._at(rung), key=lambda entry: (entry[1][0], entry[0]))[rung.places - 1 :]:
            del self._held[number]
        state = take()
        size = bytes_of(state)
        if self._room is None:
            self._room = int(SHARE * free_memory(torch.device("cpu")))
        if (len(self._held) + 1) * size <= self._room:
            self._held[trial.number] = (mine, Paused(trial.epochs, state))
        self._tell(rung, size)

    def put(self, trial: Trial, state: dict[str, Any]) -> None:
        """Holds the state of a trial that an earlier attempt held."""
        self._held[trial.number] = (outlook(trial, len(trial.epochs)), Paused(trial.epochs, state))

    def waiting(self) -> list[tuple[int, Paused]]:
        """What is held, by number."""
        return [(number, paused) for number, (_, paused) in sorted(self._held.items())]

    def _at(self, rung: Rung) -> list[tuple[int, tuple[float, Paused]]]:
        return [(n, entry) for n, entry in self._held.items() if len(entry[1].history) == rung.epochs]

    def _tell(self, rung: Rung, size: int) -> None:
        if self._told or self._room is None:
            return
        self._told = True
        fit = min(rung.places, self._room // max(1, size))
        text = f"up to {fit} trials wait in memory, {size / MEBI:.1f} MiB each"
        if fit < rung.places:
            text += f"; {rung.places - fit} more that go on do not fit and are computed again"
        event("tune", text, level="WARNING" if fit < rung.places else "INFO")


def bytes_of(value: Any) -> int:
    """Of all tensors in it."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, dict):
        return sum(map(bytes_of, value.values()))
    return sum(map(bytes_of, value)) if isinstance(value, list | tuple) else 0
