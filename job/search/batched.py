"""Trials trained at once, as one batched model (see `job.search.stacked`).

Up to `together` trials form a group. All of them take an epoch at the same time; a trial that has ended leaves, and the
one waiting with the lowest number takes its place, so that a group shrinks only when none is left waiting. Which trials
are together when is a function of the orders, `together` and the losses alone.

Under successive halving a trial leaves at its rung and waits, its row on the host; the next rung's group is made of the
rows of those that go on. What waits is part of the group's state.

What holds: suggestions, start weights, orders of images and dropout are those of trials run one after the other; their
losses differ by the rounding of differently grouped sums. Since grouping may change last bits, a group's state is kept
as a whole, with every trial that had ended by then and no other: whoever goes on from it forms the same groups, and
its records have the same bytes. `together` belongs to the run's arithmetic for the same reason.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from job.console.logs import event
from job.device import Compute
from job.device.memory import OUT_OF_MEMORY, free_memory, is_out_of_memory, release_memory
from job.engine import Course
from job.engine.schedule import planned
from job.results import WAITS, Epoch, Trial
from job.search import grouped
from job.search.grouped import Begun, Member, members, part, unfinished
from job.search.held import Held
from job.search.stacked import epochs
from job.search.stacked.architecture import architecture, bytes_each, runs_stacked
from job.search.stacked.state import State, fresh, joined, snapshot
from job.search.stacked.step import Stack
from job.search.trial import Callbacks, Order, Setup, ended, ending, is_over, run_trial

MEMORY_SHARE = 0.6  # of the device's free memory that a group may plan with: the rest is for what no formula foresees


def pays(build: Callable[[], nn.Module], compute: Compute) -> bool:
    """Whether trials of this model are trained at once where nobody says otherwise: a rule, not a timing that may flip.

    On a GPU, where the layers have been compared with their twins and are matrix products alone: small ones leave a GPU
    idle and batched ones fill it. Grouped convolutions may be slower than one after the other, attention writes out
    scores and 1.8 GB of random bits a step (20 learners of vit), and on a CPU the cores are busy with one trial (see
    docs/scale-out.md for what was measured).
    """
    if not compute.on_gpu:
        return False
    model = build()
    slow = any(isinstance(module, (nn.Conv2d, nn.MultiheadAttention)) for module in model.modules())
    return not slow and runs_stacked(model, compute)


def fitting(build: Callable[[], nn.Module], compute: Compute, batch_size: int) -> int:
    """How many trials the device's free memory holds, estimated; 1 where not even the estimate has room."""
    try:
        each = bytes_each(architecture(build, compute), batch_size)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return 1
    return max(1, int(MEMORY_SHARE * free_memory(compute.device) / each))


class Batched:
    """The groups of one search. See `job.search.runners.Runner`. An order that comes alone runs as everywhere else."""

    def __init__(self, setup: Setup, callbacks: Callbacks, together: int, begun: Begun | None = None) -> None:
        self._setup = setup
        self._callbacks = callbacks
        self._together = together
        self._begun = begun
        self._held = Held()

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        begun, self._begun = self._begun, None
        self._held.begin(orders)
        if begun is None:
            begun, together = Begun((), {}), self._together
        else:  # with as many as it had: it was full, or nobody is waiting
            together = sum(trial.ending != WAITS for trial in begun.trials) or self._together
        entering = members([self._held.resumed(order) for order in orders], begun, self._held)
        if len(entering) == 1 and entering[0].start is None:
            if not self._callbacks.starts(orders[0]):
                return
            yield run_trial(self._setup, orders[0], self._callbacks)
        else:
            yield from self._groups(entering, together)
        if len(self._held):
            self._tell([], None, ())
        else:
            self._callbacks.on_group((), dict)

    def _groups(self, waiting: deque[Member], together: int) -> Iterator[Trial]:
        group: list[Member] = []
        stack: Stack | None = None
        rows: list[int] = []  # of `stack`: those of the group's first members, who were there already
        epochs = 0
        while group or waiting:
            self._enter(group, waiting, together)
            if not group:  # there is no time for those that waited
                return
            try:
                if stack is None or len(group) > len(rows) or len(rows) < len(stack.parts):
                    stack = self._assembled(group, stack, rows)
                if epochs:
                    self._tell(group, stack, waiting)
                self._epoch(group, stack)
                epochs += 1
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                stack = None
            if stack is None:  # here, where the error no longer holds what its frames held
                release_memory()
                if len(group) == 1:
                    order, history = group[0].order, group[0].history
                    yield Trial(order.number, order.learning_rate, tuple(history), OUT_OF_MEMORY)
                else:
                    together = len(group) // 2
                    event("tune", f"{OUT_OF_MEMORY} for {len(group)} trials at once: going on with {together}")
                    waiting.extendleft([replace(m, history=list(m.before)) for m in reversed(group)])
                group, rows = [], []
                continue
            in_time = self._callbacks.in_time()
            rows = [row for row, member in enumerate(group) if in_time and not self._leaves(member)]
            yield from [self._left(m, stack, row) for row, m in enumerate(group) if row not in rows]
            group = [group[row] for row in rows]

    def _enter(self, group: list[Member], waiting: deque[Member], together: int) -> None:
        """Fills the group; where no trial is begun any more, nobody waits either."""
        while waiting and len(group) < together:
            if not self._callbacks.starts(waiting[0].order):
                waiting.clear()
                return
            group.append(waiting.popleft())

    def _tell(self, group: Sequence[Member], stack: Stack | None, waiting: Iterable[Member]) -> None:
        """Tells how far the group and those that wait with a state have come."""
        others = [*waiting, *(grouped.waiting(number, paused) for number, paused in self._held.waiting())]
        outside = [
            Trial(m.order.number, m.order.learning_rate, m.before, "", m.note, ending=WAITS)
            for m in others
            if m.start is not None
        ]
        states = [*([stack.state] if stack else []), *(m.start for m in others if m.start is not None)]

        def copied() -> dict[str, Any]:
            return snapshot(joined([State(**snapshot(state)) for state in states]))

        self._callbacks.on_group((*unfinished(group), *outside), copied)

    def _left(self, member: Member, stack: Stack, row: int) -> Trial:
        """The record of a member that leaves; the row of one that waits at its rung is held."""
        order = member.order
        trial = replace(ended(order, member.history, member.note), complete=self._setup.recipe.scheduled)
        why = ending(self._setup.settings, order, member.history)
        if order.rung is None or why != WAITS:
            return replace(trial, ending=why)
        trial = replace(trial, ending=WAITS)
        self._held.offer(order.rung, trial, lambda: grouped.row(stack.state, row, order.learning_rate, member.note))
        return trial

    def _assembled(self, group: Sequence[Member], stack: Stack | None, rows: Sequence[int]) -> Stack:
        """The group as a stack: the `rows` of the one before it, then those who enter."""
        setup, seed = self._setup, self._setup.settings.seed
        kind = stack.kind if stack else architecture(setup.build, setup.compute)
        states = [stack.state.rows(rows)] if stack and rows else []
        for member in group[len(rows) :]:
            new = member.start or fresh(setup.build, kind, setup.compute, seed, part(member))
            states.append(new.map(lambda tensor: tensor.to(setup.compute.device)))
        length = setup.settings.tune_max_epochs
        learners = [(part(m), planned(setup.recipe, m.order.learning_rate, length)) for m in group]
        stack = Stack(kind, setup.compute, seed, learners, joined(states))
        if any(member.note for member in group):
            stack.full_step = None
        return stack

    def _epoch(self, group: Sequence[Member], stack: Stack) -> None:
        """One epoch of every member. Each is booked an equal share of the time."""
        started = time.monotonic()
        setup = self._setup
        course = Course(setup.train, setup.validation, setup.settings.batch_size, self._callbacks.on_batch)
        scores = epochs.epoch(stack, course, [len(member.history) + 1 for member in group])
        seconds = (time.monotonic() - started) / len(group)
        for member, (trained, validated) in zip(group, scores, strict=True):
            member.note = member.note or stack.note
            member.history.append(Epoch(len(member.history) + 1, trained, validated, seconds))
            self._callbacks.on_epoch(member.order.number, member.order.learning_rate, member.history, None)

    def _leaves(self, member: Member) -> bool:
        settings = self._setup.settings
        most = settings.tune_max_epochs if member.order.rung is None else member.order.rung.epochs
        return len(member.history) >= most or is_over(member.history, settings.trial_patience)
