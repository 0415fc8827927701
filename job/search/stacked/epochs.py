"""An epoch of a stack: every learner in its own order of images, then evaluated on the same ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from job.data import Split
from job.engine import Course, OnBatch
from job.engine.schedule import Schedule
from job.engine.step import evaluation_batch, prepare
from job.results import Score
from job.search.stacked.draws import drawn
from job.search.stacked.step import Stack, forward, train_step
from job.seeds import seed_for


def train_epoch(
    stack: Stack, split: Split, numbers: Sequence[int], batch_size: int, on_batch: OnBatch
) -> tuple[Tensor, Tensor]:
    """One pass of every learner, of which k is in its epoch `numbers[k]`, in the order that it has alone.

    Returns the sums of losses and the counts of right answers over all images, `[learners]`, still on the device.
    """
    count, device = len(split), split.labels.device
    seeds = [partial(seed_for, stack.seed, *part, "epoch", n) for part, n in zip(stack.parts, numbers, strict=True)]
    orders = [torch.randperm(count, generator=torch.Generator().manual_seed(seed("order"))) for seed in seeds]
    chosen = torch.stack(orders)  # [learners, count]
    if stack.augmentation is not None:
        stack.augmentation.begin(*(seed("augmentation") for seed in seeds))
    rates = rates_of(stack, numbers, math.ceil(count / batch_size))
    generators = [torch.Generator(device).manual_seed(seed("dropout")) for seed in seeds]
    stack.kind.model.train()
    loss_sums = torch.zeros(len(stack.parts), dtype=torch.float64, device=device)
    correct = torch.zeros(len(stack.parts), dtype=torch.int64, device=device)
    flat = [rows.flatten() for rows in torch.split(chosen, batch_size, dim=1)]
    images = split.batches(torch.cat(flat), list(map(len, flat)))  # learner after learner, as a step takes them
    for step, (rows, pixels) in enumerate(zip(torch.split(chosen.to(device), batch_size, dim=1), images, strict=True)):
        if rates is not None:
            stack.rates.copy_(rates[step])
        bits = drawn(generators, stack.kind.draws * rows.shape[1], device)
        batch = pixels.view(*rows.shape, *pixels.shape[1:]), split.labels[rows], rows, bits
        if stack.full_step is not None and rows.shape[1] == batch_size:
            losses, right = stack.full_step(partial(train_step, stack), *batch)
        else:
            losses, right = train_step(stack, *batch)
        loss_sums += losses.double() * rows.shape[1]
        correct += right
        on_batch(0)
    return loss_sums, correct


def rates_of(stack: Stack, numbers: Sequence[int], steps: int) -> Tensor | None:
    """The rates of each of an epoch's steps, `[steps, learners, 1]`; None where they are constant."""
    plans = [plan for plan in stack.plans if isinstance(plan, Schedule)]
    if not plans:
        return None
    rates = [plan.rates(number, steps) for plan, number in zip(plans, numbers, strict=True)]
    return torch.tensor(rates, dtype=stack.rates.dtype, device=stack.rates.device).T[:, :, None]


@torch.no_grad()
def evaluate(stack: Stack, split: Split, batch_size: int, on_batch: OnBatch) -> tuple[Tensor, Tensor]:
    """Sums of losses and counts of right answers of every learner over the same images, `[learners]`, on the device."""
    learners, device = len(stack.parts), split.labels.device
    stack.kind.model.eval()
    weights = stack.kind.views(stack.state.weights)
    loss_sums = torch.zeros(learners, dtype=torch.float64, device=device)
    correct = torch.zeros(learners, dtype=torch.int64, device=device)
    # Nothing is kept for a backward pass: no more memory than a step's.
    batch = min(evaluation_batch(split.side), 4 * batch_size)
    for pixels, labels in split.in_turn(batch):
        logits = forward(stack, weights, None, prepare(pixels, stack.compute), shared=True)
        each = labels.expand(learners, -1)
        losses = functional.cross_entropy(logits.flatten(0, 1), each.flatten(), reduction="none").view_as(each)
        loss_sums += losses.sum(dim=1).double()
        correct += (logits.argmax(dim=2) == labels).sum(dim=1)
        on_batch(0)
    return loss_sums, correct


def epoch(stack: Stack, course: Course, numbers: Sequence[int]) -> list[tuple[Score, Score]]:
    """Trains every learner for one epoch, learner k for its epoch `numbers[k]`, and evaluates it: its scores while
    training and on the held-out images.

    `course.on_batch` is called with 0 after every batch. The device is waited for once, at the end.
    """
    train, heldout, batch_size = course.train, course.heldout, course.batch_size
    trained = train_epoch(stack, train, numbers, batch_size, course.on_batch)
    evaluated = evaluate(stack, heldout, batch_size, course.on_batch)
    sums = torch.stack([part.double() for part in (*trained, *evaluated)]).tolist()
    return [
        (Score(loss / len(train), 100 * right / len(train)), Score(held / len(heldout), 100 * hit / len(heldout)))
        for loss, right, held, hit in zip(*sums, strict=True)
    ]
