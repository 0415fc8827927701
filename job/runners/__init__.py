"""Who runs the trials of a search: this process, several on this machine, or a Ray cluster.

The seam is one function: orders (numbers and learning rates) go in, records come back as they finish, in any order.
Whoever runs a trial, its record is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from job import device
from job.device import Compute
from job.results import Trial
from job.runners import cluster
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
    """Where trials run: `kind` is inline, processes or ray; process n uses `devices[n % len(devices)]`."""

    kind: str
    workers: int
    devices: tuple[str, ...] = ()

    def describe(self) -> str:
        if self.kind == "ray":
            return f"on a Ray cluster with room for {self.workers}"
        return "one after the other" if self.workers == 1 else f"on {self.workers} worker processes"


@contextmanager
def planned(settings: Settings, compute: Compute, check: Callable[[], object]) -> Iterator[Plan]:
    """Who runs the trials: for WORKERS=auto one worker per GPU that may be used, and one on a CPU.

    The cluster, where RAY_ADDRESS names one, stays connected within. `check` is called while waiting for it and may
    raise. Raises Fault where Ray is not installed and TemporaryFault where the cluster cannot be reached.
    """
    if settings.ray_address is None or settings.learning_rate is not None:
        devices = device.for_trials(settings.device, compute)
        workers = len(devices) if settings.workers == "auto" else int(settings.workers)
        yield Plan("inline" if workers == 1 else "processes", workers, devices)
        return
    with cluster.connected(settings.ray_address, check):
        yield Plan("ray", cluster.slots(compute) if settings.workers == "auto" else int(settings.workers))


@contextmanager
def open_runner(plan: Plan, setup: Setup, callbacks: Callbacks) -> Iterator[Runner]:
    """The runner of this plan; what it started has ended when it is left."""
    if plan.kind == "inline":
        yield Inline(setup, callbacks)
    elif plan.kind == "ray":
        with cluster.tasks(setup, callbacks, plan.workers) as tasks:
            yield tasks
    else:
        with processes(setup, callbacks, plan.workers, plan.devices) as runner:
            yield runner
