"""The trials of a group that trains as one batched model, and what an earlier attempt began of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from job.results import Epoch, Paused, Trial
from job.search.held import Held
from job.search.stacked.state import State, snapshot
from job.search.trial import Order


@dataclass(frozen=True)
class Begun:
    """A group as an earlier attempt left it: its trials by number, with their epochs so far, and their state."""

    trials: tuple[Trial, ...]
    state: dict[str, Any]


@dataclass
class Member:
    """A trial of a group. `start` is the row that it enters with, None for new weights; `before` its epochs by then;
    `note` says why its steps are as they are written where others' are replayed.
    """

    order: Order
    start: State | None = None
    before: tuple[Epoch, ...] = ()
    history: list[Epoch] = field(default_factory=list)
    note: str = ""


def part(member: Member) -> tuple[str | int, ...]:
    return ("trial", member.order.number)


def unfinished(group: Sequence[Member]) -> tuple[Trial, ...]:
    return tuple(Trial(m.order.number, m.order.learning_rate, tuple(m.history), note=m.note) for m in group)


def waiting(number: int, paused: Paused) -> Member:
    """A trial as it waits at its rung, from what `row` made."""
    kept, epochs = paused.learner, paused.history
    return Member(Order(number, kept["rate"]), State(**kept["row"]), epochs, list(epochs), kept["note"])


def row(state: State, number: int, rate: float, note: str) -> dict[str, Any]:
    """Row `number` of a state for a trial to wait in, on the host."""
    return {"row": snapshot(state.rows([number])), "rate": rate, "note": note}


def members(orders: Sequence[Order], begun: Begun, held: Held) -> deque[Member]:
    """The orders with what was begun of them; what waits at a rung and is not ordered goes to `held`."""
    rows = {trial.number: (row, trial) for row, trial in enumerate(begun.trials)}
    state = State(**begun.state) if rows else None
    found: deque[Member] = deque()
    for order in orders:
        number, trial = rows.pop(order.number, (0, None))
        if trial is not None and state is not None:
            found.append(Member(order, state.rows([number]), trial.epochs, list(trial.epochs), trial.note))
        elif order.paused is not None and "row" in order.paused.learner:
            found.append(replace(waiting(order.number, order.paused), order=replace(order, paused=None)))
        else:
            found.append(Member(order))
    for number, trial in rows.values():
        assert state is not None
        held.put(trial, row(state, number, trial.learning_rate, trial.note))
    return found
