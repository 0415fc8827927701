"""Trials as Ray tasks: Ray places them, runs them again where a node dies, and tells what became of them.

The only importer of ray, an optional extra (`requirements-ray.in`). Source: https://docs.ray.io/en/latest/ray-core/.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from job import device
from job.console.logs import event
from job.data import Split
from job.device import Compute
from job.errors import Fault, TemporaryFault, first_line
from job.results import Trial
from job.search.held import Held
from job.search.shared import nothing
from job.search.trial import Callbacks, Order, Setup, run_trial

CONNECT_SECONDS = 60.0  # a cluster that has not answered by then counts as not reachable
PORT_SECONDS = 10.0
LOOK_SECONDS = 0.2  # between two looks at signals while waiting for trials
RETRIES = 5  # of a trial whose node or worker dies; spot nodes may go several times


def check_installed() -> None:
    """Raises Fault where Ray is asked for and not there."""
    if importlib.util.find_spec("ray") is None:
        raise Fault(
            "RAY_ADDRESS is set, but ray is not installed.",
            "Install the extra: make install-ray (pip install -r requirements-ray.lock), or unset RAY_ADDRESS.",
        )


def not_reachable(address: str, why: str) -> TemporaryFault:
    return TemporaryFault(
        f"RAY_ADDRESS={address}: the cluster cannot be reached: {why}.",
        "Check that it runs (ray status), that this Ray and Python are the cluster's, and the address.",
    )


@contextmanager
def connected(address: str, check: Callable[[], object]) -> Iterator[None]:
    """Connected to the cluster; `check` is called while waiting and may raise.

    Raises TemporaryFault where it does not answer within a minute.
    """
    check_installed()
    knock(address)
    import ray

    outcome: list[Exception | None] = []
    threading.Thread(target=connect, args=(address, outcome), name="ray", daemon=True).start()
    deadline = time.monotonic() + CONNECT_SECONDS
    while not outcome:
        check()
        if time.monotonic() > deadline:
            raise not_reachable(address, f"no answer within {CONNECT_SECONDS:g} s")
        time.sleep(0.05)
    if outcome[0] is not None:
        raise not_reachable(address, first_line(outcome[0]).rstrip(".")) from outcome[0]
    try:
        yield
    finally:
        ending = threading.Thread(target=ray.shutdown, daemon=True)  # a lost cluster must not hold up the end
        ending.start()
        ending.join(5.0)


def connect(address: str, outcome: list[Exception | None]) -> None:
    """Appends None once connected, or what kept it from that, of many kinds: for the thread that waits."""
    import ray

    package = str(Path(__file__).parent.parent)  # the cluster's workers run the very code that this job runs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Ray announces changes of its next versions
            ray.init(
                address=address,
                runtime_env={"py_modules": [package]},
                log_to_driver=False,
                logging_level="ERROR",
                configure_logging=True,
            )
        outcome.append(None)
    except Exception as error:
        outcome.append(error)


def knock(address: str) -> None:
    """Opens the address's port once: Ray itself would try for minutes."""
    found = re.fullmatch(r"(?:ray://)?\[?(.+?)\]?:(\d+)", address)
    if found is None:
        return  # auto: Ray looks for a cluster on this machine
    try:
        socket.create_connection((found[1], int(found[2])), PORT_SECONDS).close()
    except OSError as error:
        raise not_reachable(address, error.strerror or str(error)) from error


def needs(compute: Compute) -> dict[str, float]:
    """What a trial takes of a node: a GPU, or as many CPUs as the run's trials have threads."""
    if compute.on_gpu:
        return {"num_gpus": 1, "num_cpus": 1}
    return {"num_gpus": 0, "num_cpus": compute.threads}


def slots(compute: Compute) -> int:
    """How many trials the cluster has room for as it is now; an autoscaling one may grow."""
    import ray

    there, needed = ray.cluster_resources(), needs(compute)
    of = ("GPU", "num_gpus") if compute.on_gpu else ("CPU", "num_cpus")
    return max(1, int(there.get(of[0], 0.0) / needed[of[1]]))


@contextmanager
def tasks(setup: Setup, callbacks: Callbacks, at_once: int) -> Iterator[Tasks]:
    """Up to `at_once` trials are handed to Ray at the same time, which places them as there is room."""
    runner = Tasks(setup, callbacks, at_once)
    try:
        yield runner
    finally:
        runner.end()


class Tasks:
    """The trials of one search as Ray tasks. See `job.search.runners.Runner`. Needs `connected`."""

    def __init__(self, setup: Setup, callbacks: Callbacks, at_once: int) -> None:
        import ray

        self._at_once = at_once
        self._callbacks = callbacks
        self._open: dict[Any, Order] = {}
        self._held = Held()
        splits = [
            tensor.cpu().numpy()
            for split in (setup.train, setup.validation)
            for tensor in (split.at(np.arange(len(split))), split.labels)
        ]
        # In the object store: it goes to each node once, and all workers of a node read the same copy.
        self._images = ray.put(splits)
        common = (
            replace(setup, train=nothing(), validation=nothing()),
            setup.compute.arithmetic(),
        )  # this process's threads
        self._common = ray.put(pickle.dumps(common))
        self._task = ray.remote(max_retries=RETRIES, **needs(setup.compute))(on_a_worker)

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        import ray

        waiting = list(orders)[::-1]
        self._held.begin(orders)
        while waiting or self._open:
            while waiting and len(self._open) < self._at_once:
                if not self._callbacks.starts(waiting[-1]):
                    waiting.clear()
                    break
                order = self._held.resumed(waiting.pop())
                self._open[self._task.remote(self._images, self._common, pickle.dumps(order))] = order
            self._callbacks.on_batch(0)
            if not self._callbacks.in_time():
                return self.end()  # nobody hears of their epochs: what is under way is not among the trials
            done, _ = ray.wait(list(self._open), num_returns=1, timeout=LOOK_SECONDS)
            for reference in done:
                yield self._record(reference)

    def end(self) -> None:
        """Calls back what is still under way: whoever goes on runs it again."""
        import ray

        for reference in self._open:
            with suppress(Exception):  # a cluster that is gone has nothing to call back
                ray.cancel(reference, force=True)
        self._open = {}

    def _record(self, reference: Any) -> Trial:
        """The record of a task that has ended. Raises what it could not mend."""
        import ray
        from ray import exceptions

        order = self._open.pop(reference)
        try:
            trial, state = pickle.loads(ray.get(reference))
            if order.rung is not None and state is not None:
                self._held.offer(order.rung, trial, lambda: state)
            return trial  # type: ignore[no-any-return]
        except exceptions.RayTaskError as error:
            if isinstance(error.cause, Fault):
                raise error.cause from None
            raise
        except exceptions.RuntimeEnvSetupError as error:
            raise TemporaryFault(f"the cluster could not set up a worker: {first_line(error)}.") from error
        except (exceptions.WorkerCrashedError, exceptions.NodeDiedError, exceptions.OutOfMemoryError) as error:
            failure = f"given up after {RETRIES} retries: {type(error).__name__}"
            event("worker", f"trial {order.number + 1} {failure}: {first_line(error)}", level="WARNING")
            return Trial(order.number, order.learning_rate, (), failure)


def on_a_worker(images: Sequence[Any], common: bytes, ordered: bytes) -> bytes:
    """One trial and the state in which it waits at its rung, if it does, in a process of Ray's. Everything but the
    images travels as bytes of this job's own classes.
    """
    setup: Setup
    setup, arithmetic = pickle.loads(common)
    run = setup.compute
    compute = device.choose_as(run, run.device.type, arithmetic)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the object store's memory is read-only, and nothing here writes into it
        parts = [torch.from_numpy(part).to(compute.device) for part in images]
    setup = replace(setup, compute=compute, train=Split(parts[0], parts[1]), validation=Split(parts[2], parts[3]))
    states: list[dict[str, Any]] = []
    silent = Callbacks(
        on_batch=lambda count: None,
        on_epoch=lambda number, rate, history, learner: None,
        on_rung=lambda rung, trial, copied: states.append(copied()),
    )
    trial = run_trial(setup, pickle.loads(ordered), silent)
    if compute.hardware != run.hardware:
        trial = replace(trial, note="; ".join(filter(None, (f"on {compute.hardware}", trial.note))))
    return pickle.dumps((trial, states[0] if states else None))
