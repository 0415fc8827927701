"""Replayed steps against eager ones, for a model in every precision that the card has: equal, and how fast.

Three things are asked of each: do steps replayed from a CUDA graph give the eager ones' bits, do two runs give the
same, and does a learner that was copied and put back. The first may differ by rounding, since a library may choose
other kernels while it is recorded: then the job's own judgement (`settle`) counts. The others must be equal.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import nn

from bench.gpu.facts import seconds_of, wait
from bench.gpu.states import EQUAL, State, apart, flattened
from bench.gpu.work import Wanted
from job import device, engine, models
from job.data import Split
from job.device import Compute, graphs
from job.device.memory import release_memory
from job.device.precision import native_precisions
from job.engine.learner import Learner, new_learner, restore, snapshot
from job.engine.proof import settle

SEED, RATE = 7, 1e-3
STEPS = {"mlp": 391, "cnn": 391, "vit": 100, "resnet18": 50}  # of a timed epoch: about a second of eager ones
AIMS = {"mlp": 20, "cnn": 60, "vit": 200, "resnet18": 200}  # kernels a step at most


def prove(wanted: Wanted, name: str) -> None:
    here = device.choose(wanted.device, "auto")
    first = here.precision
    precisions = sorted(native_precisions(here.device), key=lambda precision: precision != first)
    for precision in precisions:
        compute = recordable(device.choose(wanted.device, precision))
        try:
            prove_one(wanted, name, compute)
        except (RuntimeError, MemoryError) as error:  # the other precisions have their turn
            said = str(error).splitlines()[0] if str(error) else ""
            wanted.notes.add("failures", {"model": name, "precision": precision, "error": said[:300]}, False)
        release_memory()
    for precision in {"fp32", "bf16", "fp16"} - set(precisions):
        wanted.notes.skip(f"{name} in {precision}", "this device does not compute it natively")
    try:
        profile(wanted, name, recordable(device.choose(wanted.device, first)))
    except RuntimeError as error:  # the profiler needs a library and a right that not every machine gives
        wanted.notes.skip(f"{name}: kernels a step", f"the profiler: {error}"[:300])


def recordable(compute: Compute) -> Compute:
    """With replayed steps. On a CPU, in a rehearsal, a "recorded" step is the function itself."""
    if not compute.on_gpu:
        graphs.record_graph = itself  # type: ignore[assignment]
    return replace(compute, step="graph")


def itself(run: Callable[[], None], pool: Any) -> Callable[[], None]:
    return run


def builder(name: str) -> Callable[[], nn.Module]:
    return partial(models.find(name).build, 10)


def new(name: str, compute: Compute) -> Learner:
    return new_learner(builder(name), RATE, compute, SEED, ("trial", 0))


def random_split(count: int, compute: Compute) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 10, (count,), generator=generator)).to(compute.device)


def prove_one(wanted: Wanted, name: str, compute: Compute) -> None:
    batch = 2 if wanted.rehearse else 128
    row: dict[str, Any] = {"model": name, "precision": compute.precision}

    def note(passed: bool) -> bool:
        wanted.notes.add("replay against eager", row, passed, key=f"{name} {compute.precision}")
        return passed

    started = time.perf_counter()
    settled = settle(compute, builder(name), batch)
    row["the job takes"] = f"{settled.step} steps"
    row["its proof, s"] = round(time.perf_counter() - started, 2)
    holds = note(settled.step == "graph")
    for title, count in (("a step", batch), ("an epoch", (2 if wanted.rehearse else 20) * batch + batch // 2 + 1)):
        split = random_split(count, compute)
        found = compared(name, compute, split, batch)
        row |= {f"{title}: {what}": told for what, told in found.items()}
        holds = note(holds and found["replayed twice"] == EQUAL)
    gone_on, straight = resumed(name, compute, split, batch), trained(name, compute, split, batch, 2)
    row["copied, put back, gone on"] = apart(gone_on, straight, start(name, compute))
    note(holds and row["copied, put back, gone on"] == EQUAL)
    wanted.notes.add(
        "speed of a step", {"model": name, "precision": compute.precision} | step_times(wanted, name, compute)
    )


def compared(name: str, compute: Compute, split: Split, batch: int) -> dict[str, str]:
    """An epoch with replayed steps against one with eager steps, and each of them against itself."""
    eager = replace(compute, step="eager")
    by_eager, again = (trained(name, eager, split, batch, 1) for _ in range(2))
    replayed, twice = (trained(name, compute, split, batch, 1) for _ in range(2))
    began = start(name, compute)
    return {
        "replayed, eager": apart(replayed, by_eager, began),
        "eager twice": apart(again, by_eager, began),
        "replayed twice": apart(twice, replayed, began),
    }


def start(name: str, compute: Compute) -> State:
    return flattened(snapshot(new(name, compute)))


def trained(name: str, compute: Compute, split: Split, batch: int, epochs: int) -> State:
    learner = new(name, compute)
    return state_after(learner, split, batch, range(1, epochs + 1))


def state_after(learner: Learner, split: Split, batch: int, numbers: range) -> State:
    """All that a learner is after these epochs, with the last one's figures."""
    for number in numbers:
        told = engine.train_epoch(learner, split, number, batch, ignore)
    flat = flattened(snapshot(learner))
    flat["figures"] = torch.tensor([told.loss, told.accuracy], dtype=torch.float64)
    learner.recorded = None
    return flat


def resumed(name: str, compute: Compute, split: Split, batch: int) -> State:
    """Epoch 1, through a file into a fresh learner, epoch 2."""
    first = new(name, compute)
    engine.train_epoch(first, split, 1, batch, ignore)
    file = io.BytesIO()
    torch.save(snapshot(first), file)
    first.recorded = None
    file.seek(0)
    second = new(name, compute)
    restore(second, torch.load(file, map_location="cpu", weights_only=True))
    return state_after(second, split, batch, range(2, 3))


def ignore(count: int) -> None:
    """No progress is shown."""


def step_times(wanted: Wanted, name: str, compute: Compute) -> dict[str, Any]:
    """A training step in an epoch, eager and replayed, once each is warm; recording is not counted but told."""
    batch, steps = (2, 2) if wanted.rehearse else (128, STEPS[name])
    found: dict[str, Any] = {}
    if compute.on_gpu:
        torch.cuda.reset_peak_memory_stats(compute.device)
    split = random_split(steps * batch, compute)
    seconds: dict[str, float] = {}
    for step, title in (("eager", "eager"), ("graph", "replayed")):
        learner = new(name, replace(compute, step=step))
        begun = time.perf_counter()
        if step == "graph":
            learner.recorded = engine.replay.record_steps(learner, split, batch)
            wait(compute)
            found["recording, s"] = round(time.perf_counter() - begun, 2)
        rounds = 1 if step == "eager" else 3
        seconds[step] = (
            seconds_of(partial(engine.train_epoch, learner, split, 1, batch, ignore), compute, rounds) / steps
        )
        found[f"{title}, µs a step"] = round(1e6 * seconds[step])
        learner.recorded = None
    found["times as fast"] = round(seconds["eager"] / seconds["graph"], 2)
    found["replayed, images/s"] = round(batch / seconds["graph"])
    found["50,000 images, s"] = round(50_000 / batch * seconds["graph"], 4)
    if compute.on_gpu:
        found["memory, GiB"] = round(torch.cuda.max_memory_allocated(compute.device) / 2**30, 2)
    return found


def profile(wanted: Wanted, name: str, compute: Compute) -> None:
    """Which kernels a step takes: their count, and those that take the most time."""
    if not compute.on_gpu:
        wanted.notes.skip(f"{name}: kernels a step", "there are none on a CPU")
        return
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiled

    batch, steps = 128, 20
    eager = replace(compute, step="eager")
    split = random_split(batch * steps, compute)
    learner = new(name, eager)
    engine.train_epoch(learner, split, 1, batch, ignore)
    seconds = seconds_of(lambda: engine.train_epoch(learner, split, 1, batch, ignore), compute, 1)
    with profiled(activities=[ProfilerActivity.CUDA]) as found:
        engine.train_epoch(learner, split, 2, batch, ignore)
        wait(compute)
    kernels = [(event.key, event.count, event.self_device_time_total) for event in found.key_averages()]
    kernels = [kernel for kernel in kernels if kernel[2] > 0]
    total = sum(time for *_, time in kernels)
    wanted.notes.add(
        "kernels a step",
        {
            "model": name,
            "precision": compute.precision,
            "kernels": round(sum(count for _, count, _ in kernels) / steps, 1),
            "aimed at": AIMS[name],
            "their time, µs": round(total / steps, 1),
            "eager step, µs": round(seconds / steps * 1e6, 1),
        },
    )
    for key, count, time_ in sorted(kernels, key=lambda kernel: -kernel[2])[:8]:
        wanted.notes.add(
            f"kernels of {name}",
            {"kernel": key[:90], "a step": round(count / steps, 1), "share": f"{100 * time_ / total:.1f} %"},
        )
