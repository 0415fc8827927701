"""Who runs the trials of a search: this process, several on this machine, or a Ray cluster.

The seam is one function: orders (numbers and learning rates) go in, records come back as they finish, in any order.
Whoever runs a trial, its record is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from job import device
from job.device import Compute
from job.results import Trial
from job.runners.inline import Inline
from job.runners.processes import processes
from job.runners.trial import Callbacks, Order, Setup
from job.settings import Settings


class Runner(Protocol):
    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        """Runs all orders and yields each record when its trial has ended.

        A worker that dies costs its own trial's time and nothing else: that trial runs again elsewhere.
        """


@dataclass(frozen=True)
class Plan:
    """Where trials run: `kind` is inline or processes; process n uses `devices[n % len(devices)]`."""

    kind: str
    workers: int
    devices: tuple[str, ...]

    def describe(self) -> str:
        return "one after the other" if self.workers == 1 else f"on {self.workers} worker processes"


def plan(settings: Settings, compute: Compute) -> Plan:
    """Who runs the trials: for WORKERS=auto one worker per GPU that may be used, and one on a CPU."""
    devices = device.for_trials(settings.device, compute)
    workers = len(devices) if settings.workers == "auto" else int(settings.workers)
    return Plan("inline" if workers == 1 else "processes", workers, devices)


@contextmanager
def open_runner(plan: Plan, setup: Setup, callbacks: Callbacks) -> Iterator[Runner]:
    """The runner of this plan; what it started has ended when it is left."""
    if plan.kind == "inline":
        yield Inline(setup, callbacks)
    else:
        with processes(setup, callbacks, plan.workers, plan.devices) as runner:
            yield runner
