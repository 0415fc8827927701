"""How the search scales: 1,000 trials that only sleep, over 64 simulated workers, on one machine.

python -m bench.scale [--trials N] [--workers N] [--seconds MEAN]

Everything on the driver's side is the job's own: suggestions, handing out, records, checkpoints. A simulated worker is
a thread behind a worker's pipe, which sleeps through its epochs and tells each of them as a real one does. Then: from
which length of a trial on starting workers pays for a search of 20 trials.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
import random
import resource
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch

from job import device, models
from job.data import Split
from job.results import Epoch, Score, Trial
from job.runs.checkpoint import Identity, Saved
from job.runs.keeper import Keeper
from job.runs.standing import START, Standing
from job.search import tune
from job.search.processes import Processes, Worker, processes
from job.search.shared import shared_file
from job.search.trial import Callbacks, Order, Setup, run_trial
from job.settings import Settings
from job.storage.local import LocalStore

EPOCHS = 12  # of a trial, as many as the search's usual ones take
LIMIT = 1.10  # of the ideal wall-clock time
FRESH_NODES = 300.0  # seconds until a GPU node that an autoscaler adds has booted, pulled the image and joined


def length(number: int, mean: float) -> float:
    """Seconds of a trial: from a third of the mean to three times as much, since patience ends trials early or late."""
    drawn = mean * math.exp(random.Random(number).gauss(0, 0.5) - 0.125)
    return min(max(drawn, mean / 3), mean * 3)


def ideal(lengths: Sequence[float], workers: int) -> float:
    """The time in which `workers` get through the trials in this order with no cost between them."""
    free = [0.0] * workers
    for seconds in lengths:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def sleep_through(pipe: Connection, mean: float) -> None:
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        epochs = []
        for number in range(1, EPOCHS + 1):
            time.sleep(length(order.number, mean) / EPOCHS)
            epochs.append(Epoch(number, Score(1.0, 10.0), Score(1.0 / number, 20.0), 1.0))
            pipe.send(epochs[-1])
        pipe.send(Trial(order.number, order.learning_rate, tuple(epochs)))


class Thread(threading.Thread):
    """A thread with a process's way of being ended: it ends when its pipe is closed."""

    exitcode = 0

    def kill(self) -> None:
        """Nothing holds a thread that sleeps."""

    def join(self, timeout: float | None = None) -> None:
        """It ends by itself."""


class Simulated(Processes):
    mean = 0.0

    def _start(self, place: int) -> Worker:
        mine, its = Pipe()
        thread: Any = Thread(target=sleep_through, args=(its, self.mean), daemon=True)
        thread.start()
        worker = self._workers[place] = Worker(thread, mine)
        return worker


def memory() -> float:
    """The most that this process has used so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def setup(settings: Settings, images: int) -> Setup:
    split = Split(torch.zeros(images, 32, 32, 3, dtype=torch.uint8), torch.arange(images) % 10)
    return Setup(settings, partial(models.find("mlp").build, 10), split, split, device.choose("cpu", "fp32"))


def search(trials: int, workers: int, mean: float) -> dict[str, float]:
    """Wall-clock seconds against the ideal, and the driver's memory."""
    settings = Settings(model="mlp", dataset="synthetic", max_evals=trials, tune_startup_trials=trials)
    best = ideal([length(number, mean) for number in range(trials)], workers)
    done: dict[int, Trial] = {}
    quiet = Callbacks(on_batch=lambda count: None, on_epoch=lambda number, rate, history, learner: None)
    with tempfile.TemporaryDirectory() as scratch, shared_file() as file:
        store = LocalStore(Path(scratch))
        with Keeper(store, Saved(Identity({}, "", {}), 0, START), lambda standing: None) as keeper:

            def on_trial(trial: Trial) -> None:
                done[trial.number] = trial
                keeper.hand_over(Standing(tuple(done[number] for number in sorted(done))))

            runner = Simulated(setup(settings, 100), quiet, workers, ["cpu"], file)
            runner.mean = mean
            before, started = memory(), time.monotonic()
            tune.search(settings, runner, workers, on_trial)
            wall = time.monotonic() - started
            runner.end()
    return {"wall": wall, "ideal": best, "ratio": wall / best, "memory": memory(), "memory_grown": memory() - before}


def start_seconds() -> float:
    """From nothing to the first record of a real worker process, less what the same trial takes here."""
    settings = Settings(model="mlp", dataset="synthetic", tune_max_epochs=1)
    common = setup(settings, 1000)
    quiet = Callbacks(on_batch=lambda count: None, on_epoch=lambda number, rate, history, learner: None)
    order = Order(0, 1e-3)
    run_trial(common, order, quiet)
    here = time.monotonic()
    run_trial(common, order, quiet)
    here = time.monotonic() - here
    started = time.monotonic()
    with processes(common, quiet, 1, ["cpu"]) as runner:
        list(runner.run([order]))
        return time.monotonic() - started - here


def threshold(start: float, workers: int, trials: int = 20) -> float:
    """Seconds of a trial above which `workers` are sooner done than one: trials·t = start + ceil(trials/workers)·t."""
    return start / (trials - math.ceil(trials / workers))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=3.0, help="mean length of a trial")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    figures = search(wanted.trials, wanted.workers, wanted.seconds)
    print(f"{wanted.trials:,} trials of {wanted.seconds:g} s over {wanted.workers} simulated workers:")
    print(f"  wall {figures['wall']:.1f} s, ideal {figures['ideal']:.1f} s: {figures['ratio']:.3f}x (limit {LIMIT}x)")
    print(f"  driver: {figures['memory']:.0f} MiB at most, {figures['memory_grown']:.1f} MiB of them for the search")
    process = start_seconds()
    starts = {"worker processes here": process, "nodes that an autoscaler adds (assumed)": FRESH_NODES}
    print("20 trials: starting workers pays where one trial takes longer than")
    for name, start in starts.items():
        times = ", ".join(f"{threshold(start, workers):.2g} s on {workers}" for workers in (2, 4, 8, 20))
        print(f"  {name}, {start:.1f} s to start: {times}")
    if wanted.json:
        wanted.json.write_text(json.dumps(figures | {"process_start": process}, indent=2) + "\n")
    return 0 if figures["ratio"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
