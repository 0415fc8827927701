"""Half precision against fp32: test accuracy over three seeds, the same epochs of the same images in the same order.

`python -m bench.precision DIRECTORY [--limit N]`, DIRECTORY as DATASET=folder wants it. Minutes an epoch on two cores.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean
from typing import Any

from bench import contenders
from job import data, device, engine
from job.console.progress import Move
from job.data import Dataset
from job.device import Compute
from job.engine.learner import new_learner

EPOCHS = {"mlp": (1e-4, 8), "cnn": (1e-3, 4)}  # learning rate and epochs
SEEDS = (1, 2, 3)
LIMIT = 0.5  # percentage points between the means


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--limit", type=int, default=None, help="training images, as DATA_LIMIT")
    parser.add_argument("--models", nargs="*", default=list(EPOCHS))
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench/precision.json"))
    wanted = parser.parse_args()
    dataset = data.load(data.Wanted("folder", wanted.directory, wanted.limit, 3407), quiet, no_s3)
    print(f"{len(dataset.train):,} training and {len(dataset.test):,} test images; seeds {SEEDS}")
    results: dict[str, Any] = {}
    for name in wanted.models:
        rate, epochs = EPOCHS[name]
        found = {
            precision: [accuracy(name, dataset, device.choose(wanted.device, precision), seed) for seed in SEEDS]
            for precision in ("fp32", wanted.precision)
        }
        apart = mean(found[wanted.precision]) - mean(found["fp32"])
        results[name] = {"epochs": epochs, "learning_rate": rate, "test_accuracy": found, "difference_of_means": apart}
        print(f"{name}, {epochs} epochs: {found}; difference of the means {apart:+.2f} points", flush=True)
    wanted.output.parent.mkdir(parents=True, exist_ok=True)
    wanted.output.write_text(json.dumps({"train_images": len(dataset.train), "models": results}, indent=2) + "\n")
    return int(any(abs(result["difference_of_means"]) > LIMIT for result in results.values()))


def accuracy(name: str, dataset: Dataset, compute: Compute, seed: int) -> float:
    """Test accuracy, in percent, after the last epoch."""
    rate, epochs = EPOCHS[name]
    on_device = dataset.to(compute.device)
    learner = new_learner(contenders.builder(name), rate, compute, seed, ("final",))
    course = engine.Course(on_device.train, on_device.test, batch_size=128)
    *_, (_, _, tested) = engine.epochs(learner, course, range(1, epochs + 1))
    return round(tested.accuracy, 2)


@contextmanager
def quiet(title: str, total: int | None, unit: str) -> Iterator[Move]:
    """No progress is shown."""
    yield lambda count, total=None: None


def no_s3(*_: object, **__: object) -> Any:
    raise AssertionError("a folder needs no bucket")


if __name__ == "__main__":
    sys.exit(main())
