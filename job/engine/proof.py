"""The proof that replayed steps do what eager ones do, asked for when a run begins on a GPU or goes on there.

Some steps are taken three ways: eagerly; replayed; and eagerly from weights that differ in the seventh digit. What the
last one does is what rounding alone does to this model in this precision, and the bound for the second is made from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from job.console.logs import event
from job.data import Split
from job.device import Compute
from job.device.graphs import Recorder, advance, batch_sizes, lay_track, why
from job.device.memory import is_out_of_memory
from job.engine import step
from job.engine.build import side
from job.engine.learner import Learner, new_learner
from job.engine.replay import record_steps, replay_epoch, stepper

FULL_BATCHES = 3  # of each pass, before the short ones
STEPS = 3  # to be taken at least: in fp16 the first ones find no gradient that is finite, and are left out
MOST_PASSES = 8  # fp16's scale, 65,536 at first, is halved with each step that is left out
RATE = 1e-4  # so small that Adam does not turn gradients which are nothing but rounding into other losses
DISTURBED = 1e-6  # of a weight; about the rounding of a sum of a hundred terms
TIMES_NOISE = 4


@dataclass(frozen=True)
class Bound:
    """How far apart replayed and eager steps may be: `TIMES_NOISE` times what rounding does, within these limits.

    Dropout masks that are the same in every step, the smallest fault that a replay is known for, move losses by 0.01
    to 0.05 and Adam's means by 0.4 to 0.9; other orders of summation in bf16 by 0.0004 and by 0.1.
    """

    least: float
    most: float

    def of(self, noise: float) -> float:
        return min(max(TIMES_NOISE * noise, self.least), self.most)


BOUNDS = {
    "losses": Bound(1e-3, 5e-3),
    "right answers": Bound(0.02, 0.1),
    "buffers": Bound(0.01, 0.2),
    "means of the gradients": Bound(0.05, 0.3),
    "weights": Bound(0.05, 0.4),
    "counts": Bound(0.0, 0.0),
}


@dataclass(frozen=True)
class Trace:
    """What the steps leave behind, float64. `values` has the keys of `BOUNDS`; each tensor is compared by itself.

    `losses`: the mean loss of each step, times the root of its images: small batches have more noise. `right answers`:
    of each pass, a share of its images. `buffers` and `weights`: how far they have come. `counts`: Adam's steps,
    whatever else is an integer, and fp16's scale.
    """

    values: dict[str, list[Tensor]]


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


def disagreement(found: Trace, expected: Trace, disturbed: Trace) -> str:
    """What differs by more than its bound, with both; an empty text where nothing does."""
    for name, bound in BOUNDS.items():
        apart, noise = (distance(one.values[name], expected.values[name]) for one in (found, disturbed))
        if not apart <= bound.of(noise):  # NaN is no agreement
            return f"{name} {apart:.2g} apart, where rounding makes {noise:.2g}"
    return ""


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of two tensors' norms (Frobenius), as a share of the expected one's; NaN if any is."""
    shares = [torch.zeros((), dtype=torch.float64)]
    for one, other in zip(found, expected, strict=True):
        difference = (one - other).norm().cpu()
        shares.append(torch.where(difference == 0, difference, difference / other.norm().cpu()))
    return float(torch.stack(shares).max())


def prepare(compute: Compute, build: Callable[[], nn.Module], batch_size: int, counts: Iterable[int]) -> Trials:
    """Random images, half of them labelled with what the model itself takes them for: some answers are right then."""
    every = {size for count in counts for size in batch_sizes(count, batch_size)} or {batch_size}
    batch = max(every)
    sizes = (*[batch] * FULL_BATCHES, *sorted(every - {batch}, reverse=True))
    random, pixels = torch.Generator().manual_seed(0), side(build)
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
    sums: Sums = []
    while len(sums) < passes or (not passes and steps_taken(learner, sums) < STEPS and len(sums) <= MOST_PASSES):
        track.rewind(trials.order)
        torch.manual_seed(len(sums))
        sums.append([])
        for size in trials.sizes:
            advance(track, stepper(learner), size)
            sums[-1].append((track.loss_sum.clone(), track.correct.clone()))
    return len(sums), trace(learner, before, trials, sums)


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

        replay_epoch(recorded, trials.order, seed, trials.sizes, on_batch)
    return trace(learner, before, trials, sums)


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


def trace(learner: Learner, before: dict[str, Tensor], trials: Trials, sums: Sums) -> Trace:
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
            "losses": [each * sizes.sqrt()],
            "right answers": [right],
            "buffers": [way for name, way in ways.items() if name not in parameters],
            "means of the gradients": [torch.cat([mean.double().flatten() for mean in means])],
            "weights": [torch.cat([way.flatten() for name, way in ways.items() if name in parameters])],
            "counts": [*(state[name] for name in whole), *steps, *scaler],
        }
    )
