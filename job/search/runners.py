"""Who runs the trials of a search: this process (one by one, or many as one model), several on this machine, or a Ray
cluster.

The seam is one function: orders (numbers and learning rates) go in, records come back as they finish, in any order.
Whoever runs a trial, its record is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol

from torch import nn

from job import device
from job.console.logs import event
from job.device import Compute
from job.results import Trial
from job.runs.standing import START, Standing
from job.search import batched, cluster
from job.search.batched import Batched
from job.search.grouped import Begun
from job.search.inline import Inline
from job.search.processes import processes
from job.search.stacked import proof
from job.search.trial import Callbacks, Order, Setup
from job.settings import Settings

TOGETHER = "trials_together"


class Runner(Protocol):
    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        """Runs all orders and yields each record when its trial has ended.

        A worker that dies costs its own trial's time and nothing else: that trial runs again elsewhere.
        """


@dataclass(frozen=True)
class Plan:
    """Where trials run: `kind` is inline, batched, processes or ray; process n uses `devices[n % len(devices)]`.

    `together` is how many trials a batched model holds at most, `round` how many are suggested at a time after the
    start-up.
    """

    kind: str
    workers: int
    devices: tuple[str, ...] = ()
    together: int = 1
    round: int = 1

    def arithmetic(self) -> dict[str, Any]:
        """What the last bits of the trials' records depend on, as part of the run's arithmetic."""
        return {TOGETHER: self.together} if self.kind == "batched" else {}

    def describe(self) -> str:
        if self.kind == "batched":
            return f"up to {self.together} at once as one batched model"
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
        others = device.left_out(settings.device, compute)
        if others and settings.learning_rate is None:
            event("tune", f"no trials on {others}: only on a GPU of the same kind are they the same", level="WARNING")
        workers = len(devices) if settings.workers == "auto" else int(settings.workers)
        yield Plan("inline" if workers == 1 else "processes", workers, devices)
        return
    with cluster.connected(settings.ray_address, check):
        yield Plan("ray", cluster.slots(compute) if settings.workers == "auto" else int(settings.workers))


def with_batches(
    plan: Plan, settings: Settings, build: Callable[[], nn.Module], compute: Compute, kept: Mapping[str, Any] | None
) -> Plan:
    """The plan, or a batched one where WORKERS=auto leaves trials to this process and training them at once pays.

    `kept` is the arithmetic of the run's saved state: what it began with, it goes on with. Otherwise a few steps prove
    first that this device trains the model so; where they fail, this is told and trials run one after the other.
    """
    trials = min(settings.tune_startup_trials, settings.max_evals)
    if plan.kind != "inline" or settings.workers != "auto" or settings.learning_rate is not None or trials < 2:
        return plan
    if kept is not None:
        together = int(kept.get(TOGETHER, 1))
    elif batched.pays(build, compute):
        fault = proof.fault_of(build, compute)
        if fault:
            event("tune", f"trials run one after the other: as one batched model they fail: {fault}", level="WARNING")
            return plan
        together = min(trials, batched.fitting(build, compute, settings.batch_size))
    else:
        return plan
    return replace(plan, kind="batched", together=together) if together > 1 else plan


def in_rounds(plan: Plan, settings: Settings, kept: Mapping[str, Any] | None) -> Plan:
    """The plan with rounds of WORKERS trials, or of as many as `auto` meant when the run began.

    `kept` holds the settings in the run's saved state.
    """
    meant = kept.get("WORKERS", 1) if kept is not None and settings.workers == "auto" else plan.workers
    return replace(plan, round=int(meant))


@contextmanager
def open_runner(plan: Plan, setup: Setup, callbacks: Callbacks, standing: Standing = START) -> Iterator[Runner]:
    """The runner of this plan; what it started has ended when it is left. `standing` is where a batched one goes on."""
    if plan.kind == "inline":
        yield Inline(setup, callbacks)
    elif plan.kind == "batched":
        group = None
        if standing.begun and standing.learner is not None:
            group = Begun(standing.begun, standing.learner)
        yield Batched(setup, callbacks, plan.together, group)
    elif plan.kind == "ray":
        with cluster.tasks(setup, callbacks, plan.workers) as tasks:
            yield tasks
    else:
        with processes(setup, callbacks, plan.workers, plan.devices) as runner:
            yield runner
