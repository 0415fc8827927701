"""`python -m bench.places FOLDER MODEL:SIDE...`: epochs with images on the device, in the host's memory, on the disk.

A folder of images is loaded as a job loads it; then each place in turns trains one epoch of the same model on the same
images in the same order. Images a second, medians over the rounds, and as shares of the device's. The model `nothing`
takes the batches and computes nothing: how fast they come. `disk, cold`: the system forgets the file before each round
(posix_fadvise(2), DONTNEED), as far as the disk below it does so, too.

On a CPU device and host are the same memory: there `host` is what another thread's gathering costs or brings.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from pathlib import Path
from statistics import median

import torch

from job import data, device, engine
from job.console.progress import Progress
from job.data import Dataset, Split, places
from job.data.folder import Rules
from job.data.picture import Shape
from job.device import Compute
from job.device.track import batch_sizes
from job.engine.build import Builder
from job.engine.learner import new_learner

COLD = "disk, cold"
PLACES = (places.DEVICE, places.HOST, places.DISK, COLD)
BATCH = 128


def split_at(dataset: Dataset, place: str, compute: Compute, most: int) -> Split:
    """The training images at this place, `most` of them."""
    chosen = places.Place(place.partition(",")[0], 0, 0, 0, compute.on_gpu, kept=True)
    train = places.put(dataset, chosen, compute.device).train
    if most >= len(train):
        return train
    return Split(train.images[:most], train.labels[:most], None, train.feed)


def forget(dataset: Dataset) -> None:
    """Has the system drop what it keeps of the file."""
    assert dataset.mapping is not None
    dataset.mapping.give_back()
    os.fsync(dataset.mapping.fileno())
    os.posix_fadvise(dataset.mapping.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def epoch(split: Split, name: str, compute: Compute, side: int, classes: int) -> float:
    """Images a second."""
    if name == "nothing":
        order = torch.randperm(len(split))
        started = time.perf_counter()
        for images in split.batches(order, batch_sizes(len(split), BATCH)):
            images[0, 0, 0, 0].item()
        return len(split) / (time.perf_counter() - started)
    learner = new_learner(Builder(name, classes, side), 1e-4, compute, 0, ("bench",))
    first = (
        Split(split.images, split.labels[:BATCH], None, split.feed)
        if split.feed
        else split.take(torch.arange(BATCH).numpy())
    )
    engine.train_epoch(learner, first, 1, BATCH, lambda count: None)
    started = time.perf_counter()
    engine.train_epoch(learner, split, 2, BATCH, lambda count: None)
    return len(split) / (time.perf_counter() - started)


def measure(root: Path, name: str, side: int, most: int, rounds: int) -> None:
    wanted = data.Wanted("folder", root, None, 0, rules=Rules(shape=Shape(side)))
    dataset = data.load(wanted, Progress("off").bar, open_s3=None)  # type: ignore[arg-type]  # nothing is fetched
    compute = device.choose("auto", "auto")
    taken: dict[str, list[float]] = {place: [] for place in PLACES}
    for _ in range(rounds):
        for place in PLACES:
            split = split_at(dataset, place, compute, most)
            if place == COLD:
                forget(dataset)
            taken[place].append(epoch(split, name, compute, side, len(dataset.classes)))
    rates = {place: median(each) for place, each in taken.items()}
    cells = (f"{rate:,.0f} ({rate / rates[places.DEVICE]:.2f})" for rate in rates.values())
    print(f"| {name}, {side} pixels, {min(most, len(dataset.train)):,} images | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("work", nargs="+", help="MODEL:SIDE, or MODEL:SIDE:IMAGES")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    compute = device.choose("auto", "auto")
    print(
        f"{compute.describe()}; Python {platform.python_version()}, torch {torch.__version__}, "
        f"load {os.getloadavg()[0]:.1f}"
    )
    print(f"| images/s (share of device) | {' | '.join(PLACES)} |")
    for work in given.work:
        name, side, *most = work.split(":")
        measure(given.folder, name, int(side), int(most[0]) if most else 1 << 40, given.rounds)


if __name__ == "__main__":
    main()
