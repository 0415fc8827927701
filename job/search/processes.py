"""Trials side by side in processes of this machine, each with a device of its own where there are several.

The images lie in memory once, whatever the number of workers. A worker that dies is replaced and its trial run again;
workers never outlive the job, however it ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import connection, parent_process
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import IO

from job import device
from job.console.logs import event
from job.errors import Fault
from job.results import CUT, Epoch, Paused, Trial
from job.search.held import Held
from job.search.shared import SharedImages, nothing, share, shared_file
from job.search.spawned import SPAWN, no_working_folder
from job.search.trial import Callbacks, Order, Setup, ending, run_trial

DEATHS = 3  # of workers at one trial, after which that trial counts as failed
LOOK_SECONDS = 0.1  # between two looks at signals while waiting for workers


@dataclass
class Worker:
    process: SpawnProcess
    pipe: Connection
    order: Order | None = None


@contextmanager
def processes(setup: Setup, callbacks: Callbacks, workers: int, devices: Sequence[str]) -> Iterator[Processes]:
    """Up to `workers` processes, started as there is work; all of them have ended when this is left."""
    with shared_file() as file:
        runner = Processes(setup, callbacks, workers, devices, file)
        try:
            yield runner
        finally:
            runner.end()


class Processes:
    """The workers of one search. See `job.search.runners.Runner`."""

    def __init__(
        self, setup: Setup, callbacks: Callbacks, workers: int, devices: Sequence[str], file: IO[bytes]
    ) -> None:
        self._callbacks = callbacks
        self._settings = setup.settings
        self._devices = devices
        self._file = file
        self._images = share(setup.train, setup.validation, file)
        # As bytes, once: a model's stored weights go through no other way of sharing memory than the images do.
        # The arithmetic with it: asked for in a worker, it would tell that process's threads and not this one's.
        self._common = pickle.dumps((replace(setup, train=nothing(), validation=nothing()), setup.compute.arithmetic()))
        self._workers: list[Worker | None] = [None] * workers
        self._held = Held()
        self._states: dict[int, Paused] = {}  # of trials that wait at their rung, on the way
        self._histories: dict[int, list[Epoch]] = {}
        self._deaths: dict[int, int] = {}

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        waiting = deque(orders)
        self._held.begin(orders)
        while waiting or self._is_busy():
            self._give_out(waiting)
            self._callbacks.on_batch(0)
            for place, worker in self._that_have_news():
                if worker.order is not None:
                    trial = self._hear(place, worker, waiting)
                    if trial is not None:
                        yield trial

    def _is_busy(self) -> bool:
        return any(worker is not None and worker.order is not None for worker in self._workers)

    def end(self) -> None:
        """Ends all workers at once: what they were at is run again by whoever goes on."""
        running = [worker for worker in self._workers if worker is not None]
        for worker in running:
            worker.process.kill()
        for worker in running:
            worker.process.join()
            worker.pipe.close()

    def _give_out(self, waiting: deque[Order]) -> None:
        """Gives an order to every worker that has none, and starts the workers that are missing."""
        for place, worker in enumerate(self._workers):
            if not waiting:
                return
            if worker is not None and worker.order is not None:
                continue
            if not self._callbacks.starts(waiting[0]):
                waiting.clear()
                return
            worker = worker or self._start(place)
            worker.order = self._held.resumed(waiting.popleft())
            before = worker.order.paused.history if worker.order.paused else ()
            self._histories[worker.order.number] = list(before)
            with suppress(OSError):  # it is dead: this is noticed at the next look
                worker.pipe.send(worker.order)

    def _start(self, place: int) -> Worker:
        mine, its = SPAWN.Pipe()
        name = self._devices[place % len(self._devices)]
        process = SPAWN.Process(target=work, args=(its, self._common, self._images, name), name=f"worker {place + 1}")
        process.daemon = True
        with no_working_folder():
            process.start()
        its.close()  # so that the pipe ends with the worker
        worker = Worker(process, mine)
        self._workers[place] = worker
        return worker

    def _that_have_news(self) -> list[tuple[int, Worker]]:
        running = {worker.pipe: (place, worker) for place, worker in enumerate(self._workers) if worker is not None}
        return [running[pipe] for pipe in connection.wait(list(running), LOOK_SECONDS) if isinstance(pipe, Connection)]

    def _hear(self, place: int, worker: Worker, waiting: deque[Order]) -> Trial | None:
        """Takes one message; a finished trial is returned. Raises what the worker could not mend."""
        assert worker.order is not None
        order = worker.order
        try:
            message = worker.pipe.recv()
        except (EOFError, OSError):
            self._callbacks.on_batch(0)  # a signal for all processes reaches this one, too: then this is no fault
            return self._bury(place, worker, order, waiting)
        if isinstance(message, Epoch):
            history = self._histories[order.number]
            history.append(message)
            self._callbacks.on_epoch(order.number, order.learning_rate, history, None)
            return None if self._callbacks.in_time() else self._cut(place, worker, order)
        if isinstance(message, Paused):
            self._states[order.number] = message
            return None
        if isinstance(message, Trial):
            worker.order = None
            state = self._states.pop(order.number, None)
            if order.rung is not None and state is not None:
                self._held.offer(order.rung, message, lambda: state.learner)
            return message
        if isinstance(message, Fault):
            raise message
        raise RuntimeError(f"a worker met a bug at trial {order.number + 1}:\n{message}")

    def _cut(self, place: int, worker: Worker, order: Order) -> Trial | None:
        """Ends a trial that would take too long, with its worker; None where the trial has come to its own end."""
        history = self._histories[order.number]
        if ending(self._settings, order, history) != CUT:
            return None
        worker.process.kill()
        worker.process.join()
        worker.pipe.close()
        self._workers[place] = None
        return Trial(order.number, order.learning_rate, tuple(history), ending=CUT)

    def _bury(self, place: int, worker: Worker, order: Order, waiting: deque[Order]) -> Trial | None:
        """Puts a dead worker's trial first in the queue; after too many deaths it is hopeless and has failed."""
        worker.process.join()
        worker.pipe.close()
        self._workers[place] = None
        how = ended(worker.process.exitcode)
        self._deaths[order.number] = deaths = self._deaths.get(order.number, 0) + 1
        if deaths >= DEATHS:
            failure = f"its worker died {deaths} times, the last one {how}"
            return Trial(order.number, order.learning_rate, tuple(self._histories[order.number]), failure)
        event(
            "worker",
            f"a worker {how} in trial {order.number + 1}, which runs again on another one",
            level="WARNING",
            trial=order.number + 1,
            exit_code=worker.process.exitcode,
        )
        waiting.appendleft(order)
        return None


def ended(exit_code: int | None) -> str:
    if exit_code == -signal.SIGKILL:
        return "was killed (by the system where memory ran out)"
    return f"ended with exit code {exit_code}"


# --- in the worker ---


def work(pipe: Connection, common: bytes, images: SharedImages, device_name: str) -> None:
    """What a worker process does: trials as they are ordered, until its parent ends it or is gone itself."""
    threading.Thread(target=end_with_parent, name="parent watch", daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent ends this one
    order: Order | None = None
    try:
        setup: Setup
        setup, arithmetic = pickle.loads(common)
        compute = device.choose_as(setup.compute, device_name, arithmetic)
        train, validation = images.splits(compute.device)
        setup = replace(setup, compute=compute, train=train, validation=validation)
        callbacks = Callbacks(
            on_batch=lambda count: None,
            on_epoch=lambda number, rate, history, learner: pipe.send(history[-1]),
            on_rung=lambda rung, trial, copied: pipe.send(Paused(trial.epochs, copied())),
        )
        while True:
            order = pipe.recv()
            pipe.send(run_trial(setup, order, callbacks))
    except Fault as fault:
        pipe.send(fault)
    except (EOFError, BrokenPipeError):
        return
    except Exception:
        pipe.send(traceback.format_exc())


def end_with_parent() -> None:
    """Ends this process when its parent has ended, even by kill -9: no worker is left behind."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)
