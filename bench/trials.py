"""Trials of a search: one after the other, at once as one batched model, and over worker processes, side by side.

python -m bench.trials [--models mlp cnn vit] [--trials N] [--images N] [--epochs N] [--rounds N] [--workers N]

The ways alternate within a round; ratios are of the medians and of the best over the rounds, above 1 where a way is
faster than one after the other (two threads that wait for each other suffer most from whoever else uses the cores,
which the best round shows least). What a search does once is left out, and told where it is long: workers have run a
trial each before the clock starts, and so has everything else. On a GPU worker processes share it. Nothing here chooses
anything for the job.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch

from job import device, models
from job.data import Split
from job.device import Compute
from job.search.batched import Batched
from job.search.inline import Inline
from job.search.processes import processes
from job.search.runners import Runner
from job.search.trial import Callbacks, Order, Setup
from job.settings import Settings

IMAGES = {"mlp": 2000, "cnn": 256, "vit": 128, "resnet18": 128}  # of a trial on a CPU: a few seconds for twenty
GPU_IMAGES = 8000  # as many as a default search trains on
LEARNING_RATES = (1e-4, 3e-4, 1e-3)
QUIET = Callbacks(on_batch=lambda count: None, on_epoch=lambda number, rate, history, learner: None)


def random_split(count: int, compute: Compute) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(count) % 10).to(compute.device)


def setup(name: str, images: int, epochs: int, compute: Compute) -> Setup:
    settings = Settings(model=name, dataset="synthetic", tune_max_epochs=epochs, patience=epochs)
    build = partial(models.find(name).build, 10)
    train, validation = random_split(images, compute), random_split(max(1, images // 4), compute)
    return Setup(settings, build, train, validation, compute)


@contextmanager
def with_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def seconds(runner: Runner, orders: list[Order]) -> float:
    started = time.monotonic()
    trials = list(runner.run(orders))
    assert len(trials) == len(orders)
    assert not any(trial.failure for trial in trials), "random labels make nothing diverge: a trial failed"
    return time.monotonic() - started


def compare(common: Setup, trials: int, workers: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of every round, by way."""
    orders = [Order(number, LEARNING_RATES[number % len(LEARNING_RATES)]) for number in range(trials)]
    found: dict[str, list[float]] = {}
    all_threads = torch.get_num_threads()
    with with_threads(1), processes(common, QUIET, workers, [str(common.compute.device)]) as workers_at_work:
        started = time.monotonic()
        seconds(workers_at_work, orders[:workers])
        found["workers' start"] = [time.monotonic() - started]
        ways: dict[str, tuple[int, Callable[[], Runner]]] = {
            "one after the other": (all_threads, lambda: Inline(common, QUIET)),
            "one batched model": (all_threads, lambda: Batched(common, QUIET, trials)),
            f"{workers} worker processes": (1, lambda: workers_at_work),
        }
        for threads, way in list(ways.values())[:2]:
            with with_threads(threads):
                seconds(way(), orders[:2])  # what is set up once
        for _ in range(rounds):
            for name, (threads, way) in ways.items():
                with with_threads(threads):
                    found.setdefault(name, []).append(seconds(way(), orders))
                print(f"  {name}: {found[name][-1]:.2f} s", file=sys.stderr, flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mlp", "cnn", "vit"], choices=models.names())
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--images", type=int, help="a trial's training images; a quarter more for validation")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="worker processes; without it as many as threads, 2 on a GPU")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path)
    wanted = parser.parse_args()
    compute = device.choose(wanted.device, wanted.precision)
    workers = wanted.workers or (2 if compute.on_gpu else torch.get_num_threads())
    print(f"{compute.describe()}, torch {torch.__version__}; {wanted.trials} trials of {wanted.epochs} epoch(s)")
    results = {}
    for name in wanted.models:
        images = wanted.images or (GPU_IMAGES if compute.on_gpu else IMAGES.get(name, 128))
        found = compare(setup(name, images, wanted.epochs, compute), wanted.trials, workers, wanted.rounds)
        alone, best = statistics.median(found["one after the other"]), min(found["one after the other"])
        print(f"{name}, {images:,} images:")
        for way, times in found.items():
            middle = statistics.median(times)
            spread = ", ".join(f"{value:.2f}" for value in times)
            ratio = "" if way == "workers' start" else f"  {alone / middle:5.2f}x, {best / min(times):5.2f}x"
            print(f"  {way:22} {middle:7.2f} s{ratio}  ({spread})", flush=True)
        results[name] = found
    if wanted.json:
        content = {"device": compute.describe(), "torch": torch.__version__, "seconds": results}
        wanted.json.write_text(json.dumps(content, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
