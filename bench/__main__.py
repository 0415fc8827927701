"""`make bench`: the job's epoch beside the conventional loops and beside the arithmetic alone, as ratios.

All contenders of a model take turns, round after round, in one process, and the medians are compared: on a shared
machine only such ratios mean something.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from bench import contenders
from job import data, device, engine, models
from job.data import Split
from job.device import DTYPES, Compute

# Training images of one epoch on a CPU; a fifth of them is evaluated. On a GPU: all 50,000 and 10,000.
CPU_IMAGES = {"mlp": 16_000, "cnn": 4_000, "resnet18": 384, "vit": 640}
GPU_IMAGES = 50_000
TRIAL = (8_000, 2_000)  # images of a default trial: training, validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=["mlp", "cnn", "resnet18", "vit"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(models.names())
    if unknown:
        sys.exit(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(models.names())}")
    compute = device.choose(arguments.device, arguments.precision)
    print(f"{compute.describe()}; torch {torch.__version__}, Python {platform.python_version()}, load {load()}")
    if find_spec("lightning") is None:
        print("SKIPPED: Lightning, which is not installed (make bench installs it)")
    results = {}
    for name in arguments.models:
        results[name] = measure(name, compute, arguments.rounds)
        print(table(name, results[name]), flush=True)
    whole = {
        "hardware": compute.hardware,
        "precision": compute.precision,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average": load(),
        "seconds_to_first_step": seconds_to_first_step(arguments.device),
        "models": results,
    }
    print(f"process start to the first step: {whole['seconds_to_first_step']:.1f} s (mlp, drawn images)")
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "bench.json").write_text(json.dumps(whole, indent=2) + "\n")
    picture(results, compute, arguments.output / "bench.png")
    print(f"written: {arguments.output}/bench.json and bench.png")


def load() -> float:
    return os.getloadavg()[0]


def measure(name: str, compute: Compute, rounds: int) -> dict[str, Any]:
    """Seconds an epoch of every contender, median over `rounds` in turns, and what follows from them."""
    count = CPU_IMAGES[name] if compute.device.type == "cpu" else GPU_IMAGES
    dataset = data.load("synthetic", Path(), urls=(), limit=count, seed=1, bar=no_bar, open_s3=no_s3)
    train, test = dataset.to(compute.device).train, dataset.to(compute.device).test
    prepared = {title: prepare(name, train, test, compute) for title, prepare in chosen(compute).items()}
    seconds: dict[str, list[float]] = {title: [] for title in prepared}
    for epoch in prepared.values():
        epoch()  # warm-up: memory, kernels, workers
    for _ in range(rounds):
        for title, epoch in prepared.items():
            started = time.perf_counter()
            epoch()
            compute.fetch(torch.zeros((), device=compute.device))  # what was queued is done
            seconds[title].append(time.perf_counter() - started)
    medians = {title: median(values) for title, values in seconds.items()}
    flops_per_image = step_flops(name, train, compute) / contenders.BATCH
    return {
        "train_images": len(train),
        "test_images": len(test),
        "rounds": rounds,
        "seconds": seconds,
        "median_seconds": medians,
        "faster_than": {title: value / medians["job"] for title, value in medians.items()},
        "over_limit": medians["job"] / medians["limit"],
        "images_per_second": len(train) / medians["job"],
        "flops_share_of_matrix_product": flops_per_image * len(train) / medians["job"] / product_flops(compute),
        "peak_memory_gib": peak_memory(compute),
        # A default tuning phase runs the same epochs in both loops, on fewer images.
        "tuning_seconds_20_trials_of_10_epochs": {
            title: 20 * 10 * value * sum(TRIAL) / (len(train) + len(test))
            for title, value in medians.items()
            if title in ("notebook", "job")
        },
    }


def chosen(compute: Compute) -> dict[str, Any]:
    """Title → what prepares it, in the order of their turns."""
    found = {"notebook": contenders.notebook, "tuned loader": contenders.tuned_loader}
    if find_spec("lightning") is not None:
        found["Lightning fp32"] = contenders.lightning("32-true")
        if compute.precision == "bf16":
            found["Lightning bf16"] = contenders.lightning("bf16-mixed")
    return {**found, "job": contenders.job, "limit": contenders.limit}


def step_flops(name: str, train: Split, compute: Compute) -> float:
    """Floating-point operations of a forward and backward pass over one batch, as torch counts them."""
    learner = contenders.learner_of(name, compute)
    with FlopCounterMode(display=False) as counter:
        engine.train_step(learner, train.images[: contenders.BATCH], train.labels[: contenders.BATCH])
    return float(counter.get_total_flops())


def product_flops(compute: Compute) -> float:
    """FLOP/s of a large matrix product in the same precision on the same machine: what the hardware can do."""
    side = 2048 if compute.device.type == "cpu" else 8192
    a = torch.randn(side, side, device=compute.device).to(DTYPES[compute.precision])
    taken = []
    for _ in range(6):
        started = time.perf_counter()
        compute.fetch((a @ a)[0, 0])
        taken.append(time.perf_counter() - started)
    return float(2 * side**3 / median(taken[1:]))


def peak_memory(compute: Compute) -> float:
    """GiB: of the device on a GPU, of this process so far on a CPU."""
    if compute.device.type == "cpu":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated(compute.device) / 2**30


def seconds_to_first_step(where: str) -> float:
    """From `python -m job` to its first epoch's beginning, median of three."""
    variables = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "200", "DEVICE": where, "LOG_FORMAT": "json"}
    variables |= {"LEARNING_RATE": "0.001", "EPOCHS": "1", "OUTPUT": "outputs/bench/start", "FRESH": "1"}
    taken = []
    for _ in range(3):
        started = time.time()
        done = subprocess.run(
            [sys.executable, "-m", "job"], env={**os.environ, **variables}, capture_output=True, text=True, check=True
        )
        (line,) = [json.loads(line) for line in done.stdout.splitlines() if re.search('"event": "train"', line)]
        taken.append(time.mktime(time.strptime(line["time"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone - started)
    return median(taken)


def table(name: str, result: dict[str, Any]) -> str:
    medians = result["median_seconds"]
    lines = [f"{name}: {result['train_images']:,} + {result['test_images']:,} images an epoch"]
    for title, seconds in medians.items():
        lines.append(f"  {title:<16} {seconds:9.3f} s   job is {seconds / medians['job']:6.2f} times as fast")
    lines.append(
        f"  job: {result['images_per_second']:,.0f} images/s, {result['over_limit']:.3f} times the limit's time, "
        f"{100 * result['flops_share_of_matrix_product']:.0f} % of a large matrix product's FLOP/s"
    )
    return "\n".join(lines)


def picture(results: dict[str, Any], compute: Compute, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + 0.9 * len(results)), layout="constrained")
    axes = figure.subplots()
    titles = [title for title in next(iter(results.values()))["median_seconds"] if title != "job"]
    height = 0.8 / len(titles)
    for position, title in enumerate(titles):
        rows = [row + position * height for row in range(len(results))]
        bars = axes.barh(rows, [result["faster_than"][title] for result in results.values()], height, label=title)
        axes.bar_label(bars, fmt="%.2f", fontsize="x-small", padding=2)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(results))], list(results))
    axes.invert_yaxis()
    axes.set(xscale="log", xlabel="time of an epoch over the job's (log scale)", title=compute.describe())
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=144)


def no_bar(*_: object, **__: object) -> Any:
    raise AssertionError("drawn images need no progress bar")


def no_s3(*_: object, **__: object) -> Any:
    raise AssertionError("drawn images need no bucket")


if __name__ == "__main__":
    main()
