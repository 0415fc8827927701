"""Trials one after the other in this process, on the run's own device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from job.results import Trial
from job.search.trial import Callbacks, Order, Setup, run_trial


@dataclass(frozen=True)
class Inline:
    setup: Setup
    callbacks: Callbacks

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        for order in orders:
            yield run_trial(self.setup, order, self.callbacks)
