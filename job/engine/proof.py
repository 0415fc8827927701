"""The proof that replayed steps do what eager ones do, asked for when a run begins on a GPU or goes on there.

Some steps are taken three ways: eagerly; replayed; and eagerly from weights that differ in the seventh digit. What the
last one does is what rounding alone does to this model in this precision, and the bound for the second is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from job.console.logs import event
from job.data import Split
from job.device import Compute
from job.device.graphs import Recorder, why
from job.device.memory import is_out_of_memory
from job.device.track import TOGETHER, advance, batch_sizes, lay_track, runs_of
from job.engine import evaluate, score, step
from job.engine.agreement import Trace, disagreement
from job.engine.build import side
from job.engine.inputs import Kept
from job.engine.learner import Learner, new_learner
from job.engine.replay import (
    MOST_VALUES,
    record_judging,
    record_steps,
    replay_epoch,
    replay_judging,
    stepper,
    together,
)
from job.results import Score

FULL_BATCHES = 3  # of each pass, before the short ones; where the run's epochs have as many, one more than a replay's
STEPS = 3  # to be taken at least: in fp16 the first ones find no gradient that is finite, and are left out
MOST_PASSES = 8  # fp16's scale, 65,536 at first, is halved with each step that is left out
RATE = 1e-4  # so small that Adam does not turn gradients which are nothing but rounding into other losses
DISTURBED = 1e-6  # of a weight; about the rounding of a sum of a hundred terms


@dataclass(frozen=True)
class Trials:
    """What the steps are taken with: a few images, an order and the sizes of the batches of a pass."""

    split: Split
    order: Tensor
    batch: int
    sizes: tuple[int, ...]


def settle(
    compute: Compute,
    build: Callable[[], nn.Module],
    batch_size: int,
    counts: Iterable[int] = (),
    recorder: Recorder | None = None,
) -> Compute:
    """`compute` where replayed steps of this model agree with eager ones; else with eager steps, which is told.

    `counts`: how many images the run's epochs have; the sizes of their batches, short last ones included, are those
    that are proven. To be asked when a run begins or goes on, which may be on another GPU. Raises what
    `is_out_of_memory`.
    """
    if compute.step != "graph":
        return compute
    fault = fault_of_replays(compute, build, batch_size, counts, recorder)
    if not fault:
        return compute
    event("device", f"the step cannot be replayed as a CUDA graph ({fault}): eager steps, slower", level="WARNING")
    return replace(compute, step="eager")


def fault_of_replays(
    compute: Compute,
    build: Callable[[], nn.Module],
    batch_size: int,
    counts: Iterable[int],
    recorder: Recorder | None = None,
) -> str:
    """What is wrong with replayed steps, an empty text where nothing is; no error lives on with its frames."""
    try:
        trials = prepare(compute, build, batch_size, counts)
        passes, expected = eager(compute, build, trials)
        if passes > MOST_PASSES:
            return f"after {MOST_PASSES} passes {compute.precision} has not taken {STEPS} steps"
        _, disturbed = eager(compute, build, trials, passes, DISTURBED)
        return disagreement(replayed(compute, build, trials, passes, recorder), expected, disturbed)
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        return why(error)


def prepare(compute: Compute, build: Callable[[], nn.Module], batch_size: int, counts: Iterable[int]) -> Trials:
    """Random images, half of them labelled with what the model itself takes them for: some answers are right then."""
    counts = list(counts)
    every = {size for count in counts for size in batch_sizes(count, batch_size)} or {batch_size}
    batch = max(every)
    random, pixels = torch.Generator().manual_seed(0), side(build)
    many = TOGETHER * batch <= min(max(counts, default=0), MOST_VALUES // (3 * pixels**2))
    full = TOGETHER + 1 if many else FULL_BATCHES
    sizes = (*[batch] * full, *sorted(every - {batch}, reverse=True))
    images = torch.randint(0, 256, (sum(sizes), pixels, pixels, 3), dtype=torch.uint8, generator=random)
    images = images.to(compute.device)
    order = torch.randperm(sum(sizes), generator=random).to(compute.device)
    model = learner_of(compute, build).model.eval()
    with torch.no_grad(), compute.autocast():
        parts = [step.prepare(images[start : start + batch], compute) for start in range(0, len(order), batch)]
        logits = torch.cat([model(part) for part in parts])  # [images, classes]
    numbers = torch.arange(len(images), device=compute.device)
    labels = torch.where(numbers % 2 == 0, logits.argmax(dim=1), numbers % logits.shape[1])
    return Trials(Split(images, labels), order, batch, sizes)


def learner_of(compute: Compute, build: Callable[[], nn.Module]) -> Learner:
    learner = new_learner(build, RATE, compute, 0, ("proof",))
    learner.model.train()
    return learner


Sums = list[list[tuple[Tensor, Tensor]]]
"""A pass's sum of losses and count of right answers after each of its steps, pass by pass."""


def eager(
    compute: Compute, build: Callable[[], nn.Module], trials: Trials, passes: int = 0, disturbed: float = 0.0
) -> tuple[int, Trace]:
    """So many passes, or without a number as many as it takes for `STEPS` steps; and what they leave behind."""
    learner = learner_of(compute, build)
    before = tensors(learner)
    if disturbed:
        disturb(learner.model, disturbed)
    track = lay_track(trials.split.images, trials.split.labels, trials.batch)
    step = stepper(learner, Kept(trials.split.images))
    runs = runs_of(trials.sizes, together(learner, trials.split, trials.batch))
    sums: Sums = []
    while len(sums) < passes or (not passes and steps_taken(learner, sums) < STEPS and len(sums) <= MOST_PASSES):
        track.rewind(trials.order)
        torch.manual_seed(len(sums))
        sums.append([])
        for size, count in runs:
            for _ in range(count):
                advance(track, step, (size, 1))
            sums[-1] += [(track.loss_sum.clone(), track.correct.clone())] * count
    held = evaluate(learner.model, trials.split, compute, lambda images: None)
    return len(sums), trace(learner, before, trials, sums, held)


def replayed(
    compute: Compute, build: Callable[[], nn.Module], trials: Trials, passes: int, recorder: Recorder | None
) -> Trace:
    """The same with recorded steps, in the functions that an epoch takes them with."""
    learner = learner_of(compute, build)
    before = tensors(learner)
    recorded = record_steps(learner, trials.split, trials.batch, trials.sizes, recorder)
    sums: Sums = [[] for _ in range(passes)]
    for seed, done in enumerate(sums):

        def on_batch(_: int, done: list[tuple[Tensor, Tensor]] = done) -> None:
            done.append((recorded.track.loss_sum.clone(), recorded.track.correct.clone()))

        replay_epoch(recorded, trials.order, seed, runs_of(trials.sizes, recorded.together), on_batch)
    held = replay_judging(record_judging(learner, trials.split, recorder), lambda images: None)
    return trace(learner, before, trials, sums, score(compute, *held, len(trials.split)))


@torch.no_grad()
def disturb(model: nn.Module, share: float) -> None:
    random = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.mul_(1 + share * torch.randn(parameter.shape, generator=random).to(parameter.device))


def steps_taken(learner: Learner, sums: Sums) -> int:
    """By Adam's own count. SGD has none: then all of them, in fp16 those since the last that was left out."""
    counts = [int(state["step"]) for state in learner.optimizer.state.values() if "step" in state]
    if counts or learner.rate is None:
        return max(counts, default=0)
    return int(learner.scaler.state_dict().get("_growth_tracker", sum(map(len, sums))))


def tensors(learner: Learner) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


def trace(learner: Learner, before: dict[str, Tensor], trials: Trials, sums: Sums, held: Score) -> Trace:
    """What the steps changed; `before` are the model's tensors as they were built."""
    sizes = torch.tensor(trials.sizes, dtype=torch.float64, device=learner.compute.device)
    losses = torch.stack([torch.stack([loss for loss, _ in done]) for done in sums])  # [passes, steps]
    each = losses.diff(dim=1, prepend=torch.zeros_like(losses[:, :1])) / sizes
    right = torch.stack([done[-1][1] for done in sums]).double() / sizes.sum()
    parameters = {name for name, _ in learner.model.named_parameters()}
    state = {name: tensor.double() for name, tensor in learner.model.state_dict().items()}
    whole = [name for name, tensor in before.items() if not tensor.is_floating_point()]
    ways = {name: tensor - before[name].double() for name, tensor in state.items() if name not in whole}
    moments = list(learner.optimizer.state.values())
    means = [one["exp_avg"] if "exp_avg" in one else one["momentum_buffer"] for one in moments]  # Adam's, SGD's
    steps = [one["step"].double() for one in moments if "step" in one]
    scaler = [torch.tensor(float(value)) for value in learner.scaler.state_dict().values()]
    return Trace(
        {
            "losses": [each * sizes.sqrt(), torch.tensor(held.loss, dtype=torch.float64)],
            "right answers": [right, torch.tensor(held.accuracy / 100, dtype=torch.float64)],
            "buffers": [way for name, way in ways.items() if name not in parameters],
            "means of the gradients": [torch.cat([mean.double().flatten() for mean in means])],
            "weights": [torch.cat([way.flatten() for name, way in ways.items() if name in parameters])],
            "counts": [*(state[name] for name in whole), *steps, *scaler],
        }
    )
