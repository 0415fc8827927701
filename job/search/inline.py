"""Trials one after the other in this process, on the run's own device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from job.results import Trial
from job.search.held import Held
from job.search.trial import Callbacks, Order, Setup, run_trial


@dataclass(frozen=True)
class Inline:
    """See `job.search.runners.Runner`. `held` are the states of trials that wait at a rung."""

    setup: Setup
    callbacks: Callbacks
    held: Held = field(default_factory=Held)

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        callbacks = replace(self.callbacks, on_rung=self.held.offer)
        self.held.begin(orders)
        for order in orders:
            if not callbacks.starts(order):
                return
            yield run_trial(self.setup, self.held.resumed(order), callbacks)
