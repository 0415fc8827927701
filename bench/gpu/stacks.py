"""Trials as one batched model: the job's own proof, two runs, replayed against written out, copied and put back."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import torch

from bench.gpu.replays import SEED, builder, ignore, random_split
from bench.gpu.states import EQUAL, State, apart, flattened
from bench.gpu.work import Wanted
from job import device
from job.data import Split
from job.device import Compute
from job.device.memory import release_memory
from job.device.precision import native_precisions
from job.engine import Course
from job.search import batched
from job.search.stacked import epochs
from job.search.stacked.architecture import architecture
from job.search.stacked.proof import fault_of
from job.search.stacked.state import fresh, joined, restored, snapshot
from job.search.stacked.step import Stack

RATES = (1e-4, 3e-4, 1e-3, 3e-3)
PRECISIONS = ("bf16", "fp32")  # loss scaling would be one for all, so that fp16 is never stacked


@dataclass(frozen=True)
class Learners:
    """Some trials of a model, as new ones or as a copy that was kept."""

    name: str
    compute: Compute

    def new(self, kept: bytes | None = None) -> Stack:
        kind = architecture(builder(self.name), self.compute)
        parts = [("trial", number) for number in range(len(RATES))]
        if kept is None:
            each = [fresh(builder(self.name), kind, self.compute, SEED, part) for part in parts]
            state = joined(each)
        else:
            copied = torch.load(io.BytesIO(kept), map_location="cpu", weights_only=True)
            state = restored(copied, self.compute)
        return Stack(kind, self.compute, SEED, list(zip(parts, RATES, strict=True)), state)


def prove(wanted: Wanted) -> None:
    native = native_precisions(device.choose(wanted.device, "auto").device)
    for name in ("mlp",) if wanted.rehearse else ("mlp", "vit", "cnn"):
        for precision in PRECISIONS:
            if precision not in native:
                wanted.notes.skip(f"{name} stacked in {precision}", "this device does not compute it natively")
                continue
            try:
                prove_one(wanted, Learners(name, device.choose(wanted.device, precision)))
            except (RuntimeError, MemoryError) as error:  # the others have their turn
                said = str(error).splitlines()[0] if str(error) else type(error).__name__
                wanted.notes.add("failures", {"model": f"{name}, stacked", "error": said[:300]}, False)
            release_memory()


def prove_one(wanted: Wanted, learners: Learners) -> None:
    batch = 4 if wanted.rehearse else 64
    compute, count = learners.compute, 6 * batch if wanted.rehearse else 20 * batch + batch // 2
    split = random_split(count, compute)
    fault = fault_of(builder(learners.name), compute)
    used = batched.pays(builder(learners.name), compute)
    row: dict[str, Any] = {
        "model": learners.name,
        "precision": compute.precision,
        "the job's own proof": fault[:300] or "holds",
        "used unless told otherwise": "yes" if used else "no",
    }
    if fault:
        wanted.notes.add("trials as one model", row, False if used else None)
        return

    def trained(numbers: tuple[int, ...], *, replayed: bool, kept: bytes | None = None) -> tuple[State, bytes]:
        return after(learners.new(kept), split, batch, numbers, replayed=replayed)

    written, _ = trained((1,), replayed=False)
    replayed, kept = trained((1,), replayed=True)
    began = flattened(snapshot(learners.new().state))
    row["replayed, written out"] = apart(replayed, written, began)
    row["written out twice"] = apart(trained((1,), replayed=False)[0], written, began)
    row["replayed twice"] = apart(trained((1,), replayed=True)[0], replayed, began)
    gone_on, straight = trained((2,), replayed=True, kept=kept)[0], trained((1, 2), replayed=True)[0]
    row["copied, put back, gone on"] = apart(gone_on, straight, began)
    strict = [row[name] == EQUAL for name in ("written out twice", "replayed twice", "copied, put back, gone on")]
    wanted.notes.add("trials as one model", row, all(strict))


def after(stack: Stack, split: Split, batch: int, numbers: tuple[int, ...], *, replayed: bool) -> tuple[State, bytes]:
    """The stack's state after these epochs, with the last one's figures, and as a file that goes on from there."""
    if not replayed:
        stack.full_step = None
    for number in numbers:
        each = [number] * len(stack.parts)
        figures = epochs.epoch(stack, Course(split, split, batch, ignore), each)
    copied = snapshot(stack.state)
    file = io.BytesIO()
    torch.save(copied, file)
    scores = [(score.loss, score.accuracy) for pair in figures for score in pair]
    return flattened(copied) | {"figures": torch.tensor(scores, dtype=torch.float64)}, file.getvalue()
