"""The proof that a stack does on this device what its learners do alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from job.data import Split
from job.device import Compute
from job.engine import Course, epochs
from job.engine.build import recipe_of, side
from job.engine.learner import new_learner
from job.engine.schedule import planned
from job.search.stacked.architecture import architecture
from job.search.stacked.epochs import epoch
from job.search.stacked.state import fresh, joined
from job.search.stacked.step import Stack


def fault_of(build: Callable[[], nn.Module], compute: Compute) -> str:
    """What is wrong with training this model stacked on this device; an empty text where nothing is.

    Two learners go through seven steps on drawn images: as a step is written, as it is captured and replayed, and each
    alone. The first two must agree closely, the last roughly, since dropout draws otherwise; a bug is far off.
    """
    parts, recipe = (("proof", 0), ("proof", 1)), recipe_of(build)
    rate = planned(recipe, recipe.rates[0] if recipe.scheduled else 1e-4, epochs=1)

    def ignore(count: int) -> None:
        """Nobody waits for this."""

    try:
        kind = architecture(build, compute)
        pixels, random = side(build), torch.Generator().manual_seed(0)
        images = torch.randint(256, (104, pixels, pixels, 3), dtype=torch.uint8, generator=random)
        split = Split(images, torch.arange(len(images)) % kind.classes).to(compute.device)

        def losses(captured: bool) -> list[float]:
            state = joined([fresh(build, kind, compute, 0, part) for part in parts])
            stack = Stack(kind, compute, 0, [(part, rate) for part in parts], state)
            stack.full_step = stack.full_step if captured else None
            scores = epoch(stack, Course(split, split, 16, ignore), (1, 1))
            return [heldout.loss for _, heldout in scores]

        written, replayed, alone = losses(False), losses(True), []
        for part in parts:
            learner = new_learner(build, rate, compute, 0, part)
            for _, _, heldout in epochs(learner, Course(split, split, 16, ignore), range(1, 2)):
                alone.append(heldout.loss)
    except Exception as error:  # of whatever kind: the same trials can still run one after the other
        return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
    close = all(abs(a - b) <= 1e-3 * abs(b) for a, b in zip(replayed, written, strict=True))
    rough = all(abs(a - b) <= 0.1 * abs(b) for a, b in zip(written, alone, strict=True))
    return "" if close and rough else f"losses {written} as written, {replayed} replayed, {alone} alone"
