"""The job's epoch against the notebook's loop and against the same step on one batch, each in a process of its own.

Ratios are of the time an image: the notebook's loop goes through fewer of them, since its time grows with their number
alone.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from bench.gpu.plan import MODELS
from bench.gpu.work import Wanted
from bench.turns import Runner, epoch, start
from job import device
from job.device import Compute

IMAGES = {"job": 50_000, "limit": 50_000, "notebook": 10_240}
REHEARSED = {"mlp": 256}  # images
ROUNDS = {"job": 3, "limit": 3, "notebook": 1}
AIMS = {"mlp": 250, "cnn": 120, "vit": 40, "resnet18": 9}  # times the notebook's loop on an H100 or H200
OVER_LIMIT = 1.05
IMAGES_A_SECOND = {"resnet18": 55_000}  # at batch 128


def measure(wanted: Wanted) -> None:
    compute = device.choose(wanted.device, "auto")
    for name in REHEARSED if wanted.rehearse else MODELS:
        try:
            wanted.notes.add("job against notebook", compare(name, compute, wanted))
        except (RuntimeError, EOFError, OSError) as error:  # a contender that died: the other models have their turn
            wanted.notes.add("failures", {"model": name, "error": f"{type(error).__name__}: {error}"[:300]}, False)


def compare(name: str, compute: Compute, wanted: Wanted) -> dict[str, Any]:
    counts = dict.fromkeys(IMAGES, REHEARSED[name]) if wanted.rehearse else IMAGES
    runners: dict[str, Runner] = {title: start(title, name, count, compute) for title, count in counts.items()}
    try:
        for runner in runners.values():
            epoch(runner)  # warm-up: memory, kernels, recording
        rounds = dict.fromkeys(ROUNDS, 1) if wanted.rehearse else ROUNDS
        taken: dict[str, list[float]] = {title: [] for title in runners}
        for number in range(max(rounds.values())):
            for title, runner in runners.items():
                if number < rounds[title]:
                    taken[title].append(epoch(runner)["seconds"])
        told = {title: epoch(runner, "memory") for title, runner in runners.items()}
    finally:
        for process, pipe in runners.values():
            pipe.close()
            process.join(5)
            process.kill()
    seconds = {title: median(values) for title, values in taken.items()}
    each = {title: seconds[title] / sum(told[title]["images"]) for title in seconds}
    train = told["job"]["images"][0]
    row: dict[str, Any] = {
        "model": name,
        "precision": compute.precision,
        "job, s": round(seconds["job"], 4),
        "limit, s": round(seconds["limit"], 4),
        f"notebook, s ({told['notebook']['images'][0]:,} images)": round(seconds["notebook"], 3),
        "notebook over job": round(each["notebook"] / each["job"], 1),
        "job over limit": round(seconds["job"] / seconds["limit"], 3),
        "images/s": round(train / seconds["job"]),
    }
    if not wanted.rehearse:
        row |= aims(name, row)
    return row


def aims(name: str, row: dict[str, Any]) -> dict[str, str]:
    """What was aimed at on an H100 or H200, and whether it is reached. A speed is no proof: a miss fails nothing."""
    wished = [
        (f"{AIMS[name]} times the notebook", row["notebook over job"] >= AIMS[name]),
        (f"{OVER_LIMIT} of the limit", row["job over limit"] <= OVER_LIMIT),
    ]
    if name in IMAGES_A_SECOND:
        wished.append((f"{IMAGES_A_SECOND[name]:,} images/s", row["images/s"] >= IMAGES_A_SECOND[name]))
    return {"aims (H100, H200)": "; ".join(f"{text}: {'reached' if reached else 'MISSED'}" for text, reached in wished)}
