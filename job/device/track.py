"""Training steps that need nothing from the host: they find their batches by a counter on the device, so that several
of them can be recorded as one graph and replayed (see `graphs`).

All of it runs on a CPU as well, where tests compare it with the eager step bit by bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

import torch
from torch import Tensor

from job.device.graphs import Recorder, record_all

TOGETHER = 8  # steps that are recorded as one graph, which finds its images at once and is launched once

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""Images, labels and row numbers of a batch to its mean loss, its logits and the right answers, see
`engine.step.train_step`.
"""
Run = tuple[int, int]
"""A size of batch, and how many steps on such batches are recorded as one."""


@dataclass(frozen=True)
class Track:
    """Tensors that stay where they are in memory: a recorded step reads from them and writes to them.

    `images` as the step takes them, the first dimension their count, or where they are `staged` those of the next step;
    `labels` int64 `[count]`, `order` int64 `[count]`: the rows as this epoch takes them; `position` int64: how many of
    them are done; `loss_sum` float64 and `correct` int64 over the epoch; `offsets` int64 `[most images in a replay]`:
    0, 1, 2, ...
    """

    images: Tensor
    labels: Tensor
    order: Tensor
    position: Tensor
    loss_sum: Tensor
    correct: Tensor
    offsets: Tensor
    staged: bool = False

    def rewind(self, order: Tensor) -> None:
        """To the beginning of an epoch in this order."""
        self.order.copy_(order)
        for tensor in (self.position, self.loss_sum, self.correct):
            tensor.zero_()


def lay_track(images: Tensor, labels: Tensor, most: int, *, staged: bool = False) -> Track:
    """At the beginning of an epoch in the order of the images; `most` of them are taken at once. `staged`: they lie
    elsewhere, and each batch is `brought` before its step.
    """

    def scalar(dtype: torch.dtype) -> Tensor:
        return torch.zeros((), dtype=dtype, device=labels.device)

    return Track(
        images if not staged else images.new_zeros(most, *images.shape[1:], device=labels.device),
        labels,
        torch.arange(len(labels), device=labels.device),
        scalar(torch.int64),
        scalar(torch.float64),
        scalar(torch.int64),
        torch.arange(most, device=labels.device),
        staged,
    )


def brought(track: Track, batches: Iterable[Tensor]) -> Iterator[Run]:
    """Puts batch after batch where the recorded step looks for it, each when the one before is launched, and gives the
    run that it is for.
    """
    for images in batches:
        track.images[: len(images)].copy_(images)
        yield len(images), 1


def advance(track: Track, step: Step, run: Run) -> None:
    """Steps on the next images; no value ever comes to the host. What needs no step's end is done for all at once."""
    size, count = run
    rows = track.order.index_select(0, track.position + track.offsets[: size * count])
    images = track.images[: size * count] if track.staged else track.images.index_select(0, rows)
    taken = (images, track.labels.index_select(0, rows), rows)
    batches = [torch.split(one, size) for one in taken]
    found = []
    for batch in zip(*batches, strict=True):
        loss, *answers = step(*batch)
        track.loss_sum.add_(loss, alpha=size)  # in float64, where the product is exact
        found.append(answers)
    track.correct.add_(right_answers(*zip(*found, strict=True)))
    track.position.add_(size * count)


def right_answers(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """How many there are in all batches, `[batch, classes]` and `[batch]` each, as a scalar on the device."""
    if len(logits) == 1:
        return (logits[0].argmax(dim=1) == labels[0]).sum()
    return (torch.cat(list(logits)).argmax(dim=1) == torch.cat(list(labels))).sum()


def batch_sizes(count: int, batch: int) -> list[int]:
    """All full batches, then the rest: it is never dropped."""
    return [batch] * (count // batch) + [count % batch] * (count % batch > 0)


def runs_of(sizes: Iterable[int], together: int) -> list[Run]:
    """Batches of these sizes, one after the other, in runs: `together` of a size where there are as many, else one."""
    runs: list[Run] = []
    for size, same in groupby(sizes):
        whole, rest = divmod(len(list(same)), together)
        runs += [(size, together)] * whole + [(size, 1)] * rest
    return runs


@dataclass(frozen=True)
class Recorded:
    """Steps on one track. They hold no reference to the model: the graph knows addresses."""

    track: Track
    runs: Mapping[Run, Callable[[], None]]
    batch: int
    together: int

    def fits(self, labels: Tensor, batch: int) -> bool:
        """Whether these are steps on the split with these very labels."""
        return self.track.labels is labels and self.batch == batch


@dataclass(frozen=True)
class Judging:
    """A pass over held-out images that stay where they are, in parts, by their counts of images: each adds to
    `loss_sum` (float64) and `correct` (int64).
    """

    labels: Tensor
    images: Tensor
    parts: Sequence[tuple[int, Callable[[], None]]]
    loss_sum: Tensor
    correct: Tensor


def record(
    track: Track, step: Step, runs: Iterable[Run], *, undo: Callable[[], None], recorder: Recorder | None = None
) -> dict[Run, Callable[[], None]]:
    """Warms up, has `undo` put everything back in place that the warm-up changed, and records each kind of run.

    Raises RuntimeError where the device or a module of the model cannot be captured; `undo` was called then as well.
    """
    kinds = sorted(set(runs), key=lambda run: run[0] * run[1], reverse=True)  # the largest first: its memory is enough

    def warm_up() -> None:
        for size in sorted({size for size, _ in kinds}, reverse=True):
            track.position.zero_()
            advance(track, step, (size, 1))

    try:
        steps = [partial(advance, track, step, run) for run in kinds]
        recorded = record_all(track.labels.device, steps, warm_up, undo, recorder)
    except BaseException:
        undo()
        raise
    track.rewind(track.order)
    return dict(zip(kinds, recorded, strict=True))
