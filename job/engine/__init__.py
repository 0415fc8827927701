"""The mathematics: one step, one evaluation, and epochs as a stream of records. No input or output, no clock.

In reading order: `schedule` (of the rate), `augmentation` with `trivial`, `criterion` (the loss), `learner` (a model
with its optimizer), `step`, this file (epochs), `fit` (the final training), `build` (fresh models), `classifier` (a
trained one as others use it), `attribution` (what it looked at), `inputs` (images kept on a GPU), `replay`, `agreement`
and `proof` (steps as CUDA graphs).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from job.data import Split
from job.device import Compute
from job.device.precision import full
from job.device.track import Run, batch_sizes, brought, right_answers, runs_of
from job.engine.learner import Learner
from job.engine.replay import recorded_judging, recorded_steps, replay_epoch, replay_judging
from job.engine.schedule import paced
from job.engine.step import evaluation_batch, prepare, train_step
from job.results import Score
from job.seeds import seed_for

OnBatch = Callable[[int], object]
"""Called after every batch with its count of images; it may raise to stop there."""


def train_epoch(learner: Learner, split: Split, number: int, batch_size: int, on_batch: OnBatch) -> Score:
    """One pass in an order that depends on the seed, the learner's part and the epoch's number alone.

    The last batch may be smaller; every image counts once.
    """
    count, device = len(split), split.labels.device
    generator = torch.Generator().manual_seed(seed_for(learner.seed, *learner.part, "epoch", number, "order"))
    drawn = torch.randperm(count, generator=generator)
    order = drawn.to(device)
    dropout_seed = seed_for(learner.seed, *learner.part, "epoch", number, "dropout")
    learner.model.train()
    recorded, sizes = recorded_steps(learner, split, batch_size), batch_sizes(count, batch_size)
    if learner.augmentation is not None:
        learner.augmentation.begin(seed_for(learner.seed, *learner.part, "epoch", number, "augmentation"))
    if learner.schedule is not None and learner.rate is not None:
        on_batch = paced(learner.rate, learner.schedule.rates(number, len(sizes)), on_batch)
    if recorded is not None:
        runs: Iterable[Run] = runs_of(sizes, recorded.together)
        if split.feed is not None:
            runs = brought(recorded.track, split.batches(drawn, sizes))
        loss_sum, correct = replay_epoch(recorded, order, dropout_seed, runs, on_batch)
        return score(learner.compute, loss_sum, correct, count)
    torch.manual_seed(dropout_seed)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for images, rows in zip(split.batches(drawn, sizes), torch.split(order, sizes), strict=True):
        loss, logits, judged_by = train_step(learner, images, split.labels.index_select(0, rows), rows)
        loss_sum.add_(loss, alpha=len(rows))  # in float64, where the product is exact
        correct += right_answers([logits], [judged_by])
        on_batch(len(rows))
    return score(learner.compute, loss_sum, correct, count)


Answer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images and labels of a batch to their summed loss and what is largest for the class that the model takes them for."""


def evaluate(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch) -> Score:
    """Mean loss and accuracy over all images, the model in evaluation mode."""

    def answer(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = logits_of(model, images, compute)
        return cross_entropy(full(logits), labels, reduction="sum"), logits

    return judged(model, split, compute, on_batch, answer)


def evaluate_with_flip(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch) -> Score:
    """As `evaluate`, each image's probabilities averaged with those of its mirror image."""

    def answer(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        odds = [full(logits_of(model, seen, compute)).log_softmax(dim=1) for seen in (images, images.flip(2))]
        both = torch.logaddexp(*odds) - math.log(2)  # of the mean probability, [batch, classes]
        return -both.gather(1, labels[:, None]).sum(), both

    return judged(model, split, compute, on_batch, answer)


@torch.no_grad()
def judged(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch, answer: Answer) -> Score:
    """The score of a model's answers on all images, in evaluation mode."""
    count, device = len(split), split.labels.device
    model.eval()
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    correct = torch.zeros((), dtype=torch.int64, device=device)
    for images, labels in split.in_turn(evaluation_batch(split.side)):
        loss, answers = answer(images, labels)
        loss_sum += loss.double()
        correct += (answers.argmax(dim=1) == labels).sum()
        on_batch(len(labels))
    return score(compute, loss_sum, correct, count)


@torch.no_grad()
def predict(model: nn.Module, split: Split, compute: Compute, on_batch: OnBatch) -> Tensor:
    """The logits of all images, `param_dtype` `[count, classes]` on the CPU, computed in `evaluate`'s very batches."""
    model.eval()
    parts = []
    for images, _ in split.in_turn(evaluation_batch(split.side)):
        parts.append(full(logits_of(model, images, compute)))
        on_batch(len(images))
    return torch.cat(parts).cpu()


def logits_of(model: nn.Module, images: Tensor, compute: Compute) -> Tensor:
    """Of a batch, uint8 `[batch, side, side, 3]`, to `[batch, classes]`."""
    with compute.autocast():
        logits: Tensor = model(prepare(images, compute))
    return logits


def score(compute: Compute, loss_sum: Tensor, correct: Tensor, count: int) -> Score:
    loss, right = compute.fetch(loss_sum, correct)
    return Score(loss=loss / count, accuracy=100 * right / count)


@dataclass(frozen=True)
class Course:
    """What a learner goes through in every epoch: images to train on, batch by batch, and others to be judged by."""

    train: Split
    heldout: Split
    batch_size: int
    on_batch: OnBatch = lambda images: None


def epochs(learner: Learner, course: Course, numbers: range) -> Iterator[tuple[int, Score, Score]]:
    """Trains through the epochs `numbers` (1-based) and evaluates on the held-out images after each.

    Yields the epoch's number, the score while training and the held-out score. The caller decides when to stop.
    """
    for number in numbers:
        trained = train_epoch(learner, course.train, number, course.batch_size, course.on_batch)
        yield number, trained, held_out(learner, course.heldout, course.on_batch)


def held_out(learner: Learner, split: Split, on_batch: OnBatch) -> Score:
    """As `evaluate`, replayed where the learner's steps are."""
    recorded = recorded_judging(learner, split)
    if recorded is None:
        return evaluate(learner.model, split, learner.compute, on_batch)
    return score(learner.compute, *replay_judging(recorded, on_batch), len(split))
