"""An epoch of steps, and its evaluation, that are recorded once and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from job.console.logs import event
from job.data import Split
from job.device.graphs import Recorder, record_all, why
from job.device.memory import is_out_of_memory
from job.device.precision import full
from job.device.track import TOGETHER, Judging, Recorded, Run, batch_sizes, lay_track, record, right_answers, runs_of
from job.engine.inputs import Kept, keep
from job.engine.learner import Learner, fall_back
from job.engine.step import evaluation_batch, taken, train_step

MOST_VALUES = 1 << 24  # of the images of one replay: more than one step's are a copy that costs more than a launch
PART = 10  # batches whose evaluation is recorded as one: for so long a signal waits
Found = TypeVar("Found")


def recorded_steps(
    learner: Learner, split: Split, batch_size: int, recorder: Recorder | None = None
) -> Recorded | None:
    """The learner's steps on this split, recorded here where they are not yet; None where they are to be eager.

    Where the recording fails, this is told, and from here on the learner takes eager steps: what was proven when the
    run began may fail later, on a worker's GPU or for want of a resource. Raises what `is_out_of_memory`.
    """
    if learner.compute.step != "graph":
        return None
    if learner.recorded is None or not learner.recorded.fits(split.labels, batch_size):
        learner.recorded = None  # before others are recorded: they would need a stream of their own
        learner.recorded = attempt(learner, partial(record_steps, learner, split, batch_size, recorder=recorder))
    return learner.recorded


def recorded_judging(learner: Learner, split: Split, recorder: Recorder | None = None) -> Judging | None:
    """The learner's evaluation on this split in the same way; None as well where its images come batch by batch."""
    if learner.compute.step != "graph" or split.feed is not None:
        return None
    learner.model.eval()
    if learner.judging is None or learner.judging.labels is not split.labels:
        learner.judging = None
        learner.judging = attempt(learner, partial(record_judging, learner, split, recorder))
    return learner.judging


def attempt(learner: Learner, recording: Callable[[], Found]) -> Found | None:
    """What is recorded; None where that failed. No error outlives this call with the graph that failed."""
    try:
        return recording()
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        fault = why(error)
    part = " ".join(str(name + 1 if isinstance(name, int) else name) for name in learner.part)
    event("device", f"{part}: its steps cannot be replayed ({fault}): eager, slower", level="WARNING")
    fall_back(learner, fault)
    return None


def replay_epoch(
    recorded: Recorded, order: Tensor, dropout_seed: int, runs: Iterable[Run], on_batch: Callable[[int], object]
) -> tuple[Tensor, Tensor]:
    """The sum of the losses (float64) and the count of right answers (int64) over all `runs`, on device."""
    recorded.track.rewind(order)
    torch.manual_seed(dropout_seed)  # after the warm-up, which draws from the stream as well
    for run in runs:
        recorded.runs[run]()
        size, count = run
        for _ in range(count):
            on_batch(size)
    return recorded.track.loss_sum, recorded.track.correct


def replay_judging(recorded: Judging, on_batch: Callable[[int], object]) -> tuple[Tensor, Tensor]:
    """The same over held-out images."""
    recorded.loss_sum.zero_()
    recorded.correct.zero_()
    for count, part in recorded.parts:
        part()
        on_batch(count)
    return recorded.loss_sum, recorded.correct


def together(learner: Learner, split: Split, batch_size: int) -> int:
    """How many full batches of an epoch are recorded as one: one where the host brings a rate or the images before
    each step.
    """
    few = len(split) // batch_size < TOGETHER or TOGETHER * batch_size * split.images[0].numel() > MOST_VALUES
    return 1 if few or learner.schedule is not None or split.feed is not None else TOGETHER


def record_steps(
    learner: Learner,
    split: Split,
    batch_size: int,
    sizes: Iterable[int] | None = None,
    recorder: Recorder | None = None,
) -> Recorded:
    """The learner's steps for every size of batch in an epoch, or for these. The learner is as before, in the very same
    tensors.
    """
    sizes = batch_sizes(len(split), batch_size) if sizes is None else sizes
    count = together(learner, split, batch_size)
    fed = split.feed is not None
    kept = Kept(split.images) if fed or learner.augmentation is not None else kept_for(learner, split)
    learner.model.train()
    track = lay_track(kept.images, split.labels, count * batch_size, staged=fed)
    runs = record(track, stepper(learner, kept), runs_of(sizes, count), undo=remember(learner), recorder=recorder)
    return Recorded(track, runs, batch_size, count)


def kept_for(learner: Learner, split: Split) -> Kept:
    """The split as the learner's model takes it. The model is in evaluation mode then."""
    learner.model.eval()
    return keep(learner.model, split, learner.compute)


def stepper(learner: Learner, kept: Kept) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
    return lambda images, labels, rows: train_step(learner, kept.inputs(images), labels, rows)


@torch.no_grad()
def record_judging(learner: Learner, split: Split, recorder: Recorder | None = None) -> Judging:
    """The learner's evaluation on a split, some batches a part."""
    kept, device, size = kept_for(learner, split), split.labels.device, evaluation_batch(split.side)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)

    @torch.no_grad()
    def judge(images: Tensor, labels: Tensor) -> None:
        weights, found = learner.weights(), []
        batches = [torch.split(one, size) for one in (images, labels)]
        for seen, own in zip(*batches, strict=True):
            logits = learner.answer(taken(kept.inputs(seen), learner.compute), weights)
            loss_sum.add_(cross_entropy(full(logits), own, reduction="sum"))
            found.append((logits, own))
        correct.add_(right_answers(*zip(*found, strict=True)))

    def warm_up() -> None:
        for count in {min(len(split), size), len(split) % size} - {0}:
            judge(kept.images[:count], split.labels[:count])

    parts = list(zip(torch.split(kept.images, PART * size), torch.split(split.labels, PART * size), strict=True))
    recorded = record_all(device, [partial(judge, *part) for part in parts], warm_up, lambda: None, recorder)
    counts = [len(labels) for _, labels in parts]
    return Judging(split.labels, kept.images, list(zip(counts, recorded, strict=True)), loss_sum, correct)


def remember(learner: Learner) -> Callable[[], None]:
    """What puts the learner's tensors back, in place, to what they hold now; what does not exist yet becomes zero."""
    model = {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}
    adam = {
        parameter: {name: value.clone() for name, value in state.items()}
        for parameter, state in learner.optimizer.state.items()
    }
    scaler = dict(learner.scaler.state_dict())

    @torch.no_grad()
    def undo() -> None:
        for name, tensor in learner.model.state_dict().items():
            tensor.copy_(model[name])
        for parameter, state in learner.optimizer.state.items():
            for name, value in state.items():
                if parameter in adam:
                    value.copy_(adam[parameter][name])
                else:
                    value.zero_()
        learner.scaler.load_state_dict(scaler)  # which fills its tensors in place
        learner.optimizer.zero_grad(set_to_none=True)

    return undo
