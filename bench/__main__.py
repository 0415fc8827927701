"""`make bench`: the job's epoch beside conventional loops and beside the arithmetic alone, as ratios.

Every contender of a model lives in a process of its own, so that what one sets (allocator, threads, denormals) helps no
other. They take turns, round after round, one epoch each while the others wait, and the medians are compared: on a
shared machine only such ratios mean something. Rounds go on until a model's time is used up.

The limit is measured in two ways: the job's very kernels on one batch, and the time that a large matrix product would
take for as many operations. Another CPU's instructions: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 make bench.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from bench import contenders, picture
from bench.turns import epoch, start
from job import device, models
from job.data import Split
from job.device import Compute, products
from job.device.precision import DTYPES
from job.engine.step import train_step

# Training images of one epoch on a CPU; a fifth of them is evaluated. On a GPU: all 50,000 and 10,000.
CPU_IMAGES = {"mlp": 16_000, "cnn": 5_120, "resnet18": 256, "resnet18_pretrained": 256, "vit": 768}
GPU_IMAGES = 50_000
LEAST_ROUNDS = 3
TRIAL = (8_000, 2_000)  # images of a default trial: training, validation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(CPU_IMAGES))
    parser.add_argument("--seconds", type=float, default=95, help="of rounds for each model")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--contenders", nargs="*", default=None, help="titles beside job and limit, e.g. notebook")
    parser.add_argument("--output", type=Path, default=Path("outputs/bench"))
    arguments = parser.parse_args()
    unknown = set(arguments.models) - set(models.names())
    if unknown:
        sys.exit(f"no such model: {', '.join(sorted(unknown))}; there are {', '.join(models.names())}")
    compute = device.choose(arguments.device, arguments.precision)
    where = f"{compute.describe()}{told()}"
    print(f"{where}; torch {torch.__version__}, Python {platform.python_version()}, load {load():.1f}")
    if find_spec("lightning") is None:
        print("SKIPPED: Lightning, which is not installed (make bench installs it)")
    results = {}
    for name in arguments.models:
        results[name] = measure(name, compute, arguments)
        print(table(name, results[name]), flush=True)
    start = seconds_to_first_step(arguments.device)
    print(f"process start to the first step: {start:.1f} s (mlp, drawn images)")
    whole = {
        "hardware": compute.hardware,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "told": told(),
        "arithmetic": compute.arithmetic(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_average": load(),
        "seconds_to_first_step": start,
        "models": results,
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    (arguments.output / "bench.json").write_text(json.dumps(whole, indent=2) + "\n")
    picture.draw(results, f"{where}, torch {torch.__version__}", arguments.output / "bench.png")
    print(f"written: {arguments.output}/bench.json and bench.png")


def told() -> str:
    """The other CPU that torch and oneDNN are to take this one for, to be said beside all figures; mostly empty."""
    names = [f"{name}={os.environ[name]}" for name in ("ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA") if os.getenv(name)]
    return f" ({' '.join(names)})" if names else ""


def load() -> float:
    return os.getloadavg()[0]


def measure(name: str, compute: Compute, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds an epoch of every contender, medians over rounds in turns, and what follows from them."""
    count = CPU_IMAGES[name] if compute.device.type == "cpu" else GPU_IMAGES
    titles = list(dict.fromkeys([*(arguments.contenders or chosen(compute)), "job", "limit"]))  # those give the figures
    runners = {title: start(title, name, count, compute) for title in titles}
    seconds: dict[str, list[float]] = {title: [] for title in titles}
    try:
        for runner in runners.values():
            epoch(runner)  # warm-up: memory, kernels, workers
        ends = time.monotonic() + arguments.seconds
        while time.monotonic() < ends or len(seconds[titles[-1]]) < LEAST_ROUNDS:
            for title, runner in runners.items():
                seconds[title].append(epoch(runner)["seconds"])
        last = {title: epoch(runner, "memory") for title, runner in runners.items()}
    finally:
        for process, pipe in runners.values():
            pipe.close()
            process.join(10)
            process.kill()
    medians = {title: median(values) for title, values in seconds.items()}
    train_images, test_images = last["job"]["images"]
    flops, rate = step_flops(name, compute) / contenders.BATCH, product_flops(compute)  # of an image; a second
    return {
        "train_images": train_images,
        "test_images": test_images,
        "rounds": len(seconds["job"]),
        "seconds": seconds,
        "median_seconds": medians,
        "over_job": {title: value / medians["job"] for title, value in medians.items()},
        "over_limit": medians["job"] / medians["limit"],
        "over_product": medians["job"] * rate / flops / (train_images + test_images / 3),  # forward is a third
        "images_per_second": train_images / medians["job"],
        "flops_share_of_matrix_product": flops * train_images / medians["job"] / rate,
        "peak_memory_gib": {title: told["memory"] for title, told in last.items()},
        # Extrapolated: a default tuning phase runs the same epochs in both loops, on fewer images.
        "extrapolated_tuning_seconds_20_trials_of_10_epochs": {
            title: 20 * 10 * value * sum(TRIAL) / (train_images + test_images)
            for title, value in medians.items()
            if title in ("notebook", "job")
        },
    }


def chosen(compute: Compute) -> list[str]:
    """Titles of the contenders in the order of their turns."""
    lightning = ["Lightning fp32", *(["Lightning bf16"] if compute.precision == "bf16" else [])]
    return ["notebook", "tuned loader", *(lightning if find_spec("lightning") else []), "job", "limit"]


def step_flops(name: str, compute: Compute) -> float:
    """Floating-point operations of a forward and backward pass over one batch, as torch counts them (in fp32: it does
    not look into kernels of the job's own).
    """
    plain = replace(device.choose(str(compute.device), "fp32", None), kernels="plain")
    learner = contenders.learner_of(name, plain)
    split = Split(torch.zeros(contenders.BATCH, 32, 32, 3, dtype=torch.uint8), torch.arange(contenders.BATCH) % 10).to(
        plain.device
    )
    rows = torch.arange(contenders.BATCH, device=plain.device)
    with FlopCounterMode(display=False) as counter:
        train_step(learner, split.images, split.labels, rows)
    return float(counter.get_total_flops())


def product_flops(compute: Compute) -> float:
    """FLOP/s of a large matrix product in the same precision on the same machine: what the hardware can do. Of torch's
    and, for fp32 on a CPU, oneDNN's the faster one.
    """
    side = 2048 if compute.device.type == "cpu" else 8192
    a = torch.randn(side, side, device=compute.device).to(DTYPES[compute.precision])
    ways: list[Callable[[], Tensor]] = [lambda: a @ a]
    if compute.device.type == "cpu" and compute.precision == "fp32":
        ways.append(lambda: products.product(a, a))
    taken: list[list[float]] = [[] for _ in ways]
    for _ in range(6):
        for way, seconds in zip(ways, taken, strict=True):
            started = time.perf_counter()
            compute.fetch(way()[0, 0])
            seconds.append(time.perf_counter() - started)
    return float(2 * side**3 / min(median(seconds[1:]) for seconds in taken))


def seconds_to_first_step(where: str) -> float:
    """From `python -m job` to its first epoch's beginning, median of three."""
    variables = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "200", "DEVICE": where, "PROGRESS": "off"}
    variables |= {"LEARNING_RATE": "0.001", "EPOCHS": "1", "OUTPUT": "outputs/bench/start", "FRESH": "1"}
    taken = []
    for _ in range(3):
        started = time.monotonic()
        with subprocess.Popen(
            [sys.executable, "-u", "-m", "job"],
            env={**os.environ, **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if "train: 1 epochs" in line:
                    taken.append(time.monotonic() - started)
        if process.returncode:
            sys.exit(f"the job ended with {process.returncode}")
    return median(taken)


def table(name: str, result: dict[str, Any]) -> str:
    medians = result["median_seconds"]
    lines = [
        f"{name}: {result['train_images']:,} + {result['test_images']:,} images an epoch, {result['rounds']} rounds"
    ]
    for title, seconds in medians.items():
        lines.append(
            f"  {title:<15} {seconds:8.3f} s, {seconds / medians['job']:6.2f} times the job's; "
            f"peak memory {result['peak_memory_gib'][title]:.2f} GiB"
        )
    share = 100 * result["flops_share_of_matrix_product"]
    lines.append(
        f"  job: {result['images_per_second']:,.0f} images/s; times its limit: {result['over_limit']:.3f} by the same "
        f"kernels, {result['over_product']:.2f} by a large matrix product, with {share:.0f} % of its FLOP/s in training"
    )
    tuning = result["extrapolated_tuning_seconds_20_trials_of_10_epochs"]
    if "notebook" in tuning:
        lines.append(
            f"  20 trials of 10 epochs, extrapolated: job {tuning['job']:,.0f} s, notebook {tuning['notebook']:,.0f} s"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
