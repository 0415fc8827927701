"""Replayed steps against eager ones, for a model in every precision that the card has: equal, and how fast.

Three things are asked of each: do steps replayed from a CUDA graph give the eager ones' bits, do two runs give the
same, and does a learner that was copied and put back. The first may differ by rounding, since a library may choose
other kernels while it is recorded: then the job's own judgement (`engine.settle`) counts. The others must be equal.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from bench.gpu.facts import seconds_of, wait
from bench.gpu.work import Wanted
from job import device, engine, models
from job.data import Split
from job.device import Compute, graphs
from job.engine import Learner

SEED, RATE = 7, 1e-3
FULL = {"resnet18": {"fp32": 12_800}}  # images of a timed epoch where all 50,000 would take long


def prove(wanted: Wanted, name: str) -> None:
    here = device.choose(wanted.device, "auto")
    first = here.precision
    precisions = sorted(device.native_precisions(here.device), key=lambda precision: precision != first)
    for precision in precisions:
        compute = recordable(device.choose(wanted.device, precision))
        try:
            prove_one(wanted, name, compute)
        except (RuntimeError, MemoryError) as error:  # the other precisions have their turn
            said = str(error).splitlines()[0] if str(error) else ""
            wanted.notes.add("failures", {"model": name, "precision": precision, "error": said[:300]}, False)
        device.release_memory()
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
    return engine.new_learner(builder(name), RATE, compute, SEED, ("trial", 0))


def random_split(count: int, compute: Compute) -> Split:
    generator = torch.Generator().manual_seed(count)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return Split(images, torch.randint(0, 10, (count,), generator=generator)).to(compute.device)


def prove_one(wanted: Wanted, name: str, compute: Compute) -> None:
    batch = 2 if wanted.rehearse else 128
    eager = replace(compute, step="eager")
    row: dict[str, Any] = {"model": name, "precision": compute.precision}
    started = time.perf_counter()
    settled = engine.settle(compute, builder(name), batch)
    row["the job takes"] = f"{settled.step} steps"
    row["its proof"] = f"{time.perf_counter() - started:.2f} s"
    holds = settled.step == "graph"

    def note(passed: bool) -> None:
        wanted.notes.add("replay against eager", row, passed, key=f"{name} {compute.precision}")

    note(holds)
    for title, count in (("one step", batch), ("an epoch with a short last batch", 20 * batch + batch // 2 + 1)):
        split = random_split(count if not wanted.rehearse else min(count, 2 * batch + 3), compute)
        by_eager, again = trained(name, eager, split, batch, 1), trained(name, eager, split, batch, 1)
        replayed, twice = trained(name, compute, split, batch, 1), trained(name, compute, split, batch, 1)
        row[f"{title}: replayed, eager"] = apart(replayed, by_eager, name, compute)
        row[f"{title}: eager twice"] = apart(again, by_eager, name, compute)
        row[f"{title}: replayed twice"] = apart(twice, replayed, name, compute)
        holds = holds and row[f"{title}: replayed twice"] == EQUAL
        note(holds)
    row["copied, put back, gone on"] = apart(
        resumed(name, compute, split, batch), trained(name, compute, split, batch, 2), name, compute
    )
    holds = holds and row["copied, put back, gone on"] == EQUAL
    note(holds)
    times = epoch_seconds(wanted, name, compute, batch)
    wanted.notes.add("seconds of an epoch", {"model": name, "precision": compute.precision} | times)


EQUAL = "equal"
State = dict[str, Tensor]


def trained(name: str, compute: Compute, split: Split, batch: int, epochs: int) -> State:
    learner = new(name, compute)
    return state_after(learner, split, batch, range(1, epochs + 1))


def state_after(learner: Learner, split: Split, batch: int, numbers: range) -> State:
    """All that a learner is after these epochs, with the last one's figures."""
    for number in numbers:
        told = engine.train_epoch(learner, split, number, batch, ignore)
    flat = flattened(engine.snapshot(learner))
    flat["figures"] = torch.tensor([told.loss, told.accuracy], dtype=torch.float64)
    learner.recorded = None
    return flat


def resumed(name: str, compute: Compute, split: Split, batch: int) -> State:
    """Epoch 1, through a file into a fresh learner, epoch 2."""
    first = new(name, compute)
    engine.train_epoch(first, split, 1, batch, ignore)
    file = io.BytesIO()
    torch.save(engine.snapshot(first), file)
    first.recorded = None
    file.seek(0)
    second = new(name, compute)
    engine.restore(second, torch.load(file, map_location="cpu", weights_only=True))
    return state_after(second, split, batch, range(2, 3))


def ignore(count: int) -> None:
    """No progress is shown."""


def flattened(value: Any, name: str = "") -> State:
    """Every tensor and number of a snapshot by its path."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list):
        parts = enumerate(value)
    elif isinstance(value, (int, float)):
        return {name: torch.tensor(value, dtype=torch.float64)}
    else:
        return {}
    found: State = {}
    for key, item in parts:
        found |= flattened(item, f"{name}.{key}" if name else str(key))
    return found


def apart(one: State, other: State, name: str, compute: Compute) -> str:
    """EQUAL where every tensor is with torch.equal; else how far the weights lie apart, as a share of how far the steps
    moved them, and which tensors differ.
    """
    different = differing(one, other)
    if not different:
        return EQUAL
    start = flattened(engine.snapshot(new(name, compute)))
    keys = [key for key in one if key.startswith("model.") and one[key].is_floating_point()]

    def norm(left: State, right: State) -> float:
        return float(torch.cat([(left[key].double() - right[key].double()).flatten() for key in keys]).norm())

    moved = norm(other, start)
    share = f"{norm(one, other) / moved:.2g} of the way" if moved else f"{norm(one, other):.2g}, where nothing moved,"
    return f"{share} apart; {len(different)} of {len(one)} tensors, first {different[0]}"


def differing(one: State, other: State) -> list[str]:
    """The names of the tensors that are not torch.equal. Raises ValueError where one state has tensors of its own."""
    if one.keys() != other.keys():
        raise ValueError(f"in one state alone: {', '.join(sorted(one.keys() ^ other.keys()))}")
    return [name for name in one if not torch.equal(one[name], other[name])]


def epoch_seconds(wanted: Wanted, name: str, compute: Compute, batch: int) -> dict[str, Any]:
    """Training epochs alone, eager and replayed, once each is warm; recording is not counted but told."""
    count = 3 * batch + 1 if wanted.rehearse else FULL.get(name, {}).get(compute.precision, 50_000)
    split = random_split(count, compute)
    rounds = 1 if wanted.rehearse else 3
    found: dict[str, float] = {}
    for step in ("eager", "graph"):
        if compute.on_gpu:
            torch.cuda.reset_peak_memory_stats(compute.device)
        learner = new(name, replace(compute, step=step))
        small = Split(split.images[: 2 * batch], split.labels[: 2 * batch])
        started = time.perf_counter()
        if step == "graph":
            learner.recorded = engine.replay.record_steps(learner, split, batch)
            wait(compute)
        else:
            engine.train_epoch(learner, small, 1, batch, ignore)
        found[f"{step} start"] = time.perf_counter() - started
        taken = []
        for number in range(1, 1 + (1 if step == "eager" else rounds)):
            started = time.perf_counter()
            engine.train_epoch(learner, split, number, batch, ignore)
            taken.append(time.perf_counter() - started)
        found[step] = median(taken)
        learner.recorded = None
    return {
        "images": count,
        "eager, s": round(found["eager"], 4),
        "replayed, s": round(found["graph"], 4),
        "eager over replayed": round(found["eager"] / found["graph"], 2),
        "replayed, images/s": round(count / found["graph"]),
        "recording, s": round(found["graph start"], 2),
        "memory, GiB": round(torch.cuda.max_memory_allocated(compute.device) / 2**30, 2) if compute.on_gpu else 0.0,
    }


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
            "their time, µs": round(total / steps, 1),
            "eager step, µs": round(seconds / steps * 1e6, 1),
        },
    )
    for key, count, time_ in sorted(kernels, key=lambda kernel: -kernel[2])[:8]:
        wanted.notes.add(
            f"kernels of {name}",
            {"kernel": key[:90], "a step": round(count / steps, 1), "share": f"{100 * time_ / total:.1f} %"},
        )
