"""A training step that needs nothing from the host: it finds its batch by a counter on the device, so that it can be
recorded once as a CUDA graph and replayed (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

Everything but `record_graph` runs on a CPU as well, where tests compare it with the eager step bit by bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

MARK_EVERY = 16  # replays between two marks by which the host sees how far the device is
WARM_UP = 3  # steps on another stream before the capture, as torch's notes on CUDA graphs ask

Step = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images and labels of a batch to its mean loss and count of right answers, see `engine.train_step`."""
Recorder = Callable[[Callable[[], None], Any], Callable[[], None]]
"""What makes a replay of a function; the second argument is a memory pool to share, None for a new one."""


@dataclass(frozen=True)
class Track:
    """Tensors that stay where they are in memory: a recorded step reads from them and writes to them.

    `images` uint8 `[count, 32, 32, 3]`, `labels` int64 `[count]`, `order` int64 `[count]`: the rows as this epoch takes
    them; `position` int64: how many of them are done; `loss_sum` float64 and `correct` int64 over the epoch;
    `offsets` int64 `[batch]`: 0, 1, 2, ...
    """

    images: Tensor
    labels: Tensor
    order: Tensor
    position: Tensor
    loss_sum: Tensor
    correct: Tensor
    offsets: Tensor

    def rewind(self, order: Tensor) -> None:
        """To the beginning of an epoch in this order."""
        self.order.copy_(order)
        for tensor in (self.position, self.loss_sum, self.correct):
            tensor.zero_()


def lay_track(images: Tensor, labels: Tensor, batch: int) -> Track:
    def scalar(dtype: torch.dtype) -> Tensor:
        return torch.zeros((), dtype=dtype, device=labels.device)

    return Track(
        images,
        labels,
        torch.arange(len(labels), device=labels.device),
        scalar(torch.int64),
        scalar(torch.float64),
        scalar(torch.int64),
        torch.arange(batch, device=labels.device),
    )


def advance(track: Track, step: Step, size: int) -> None:
    """One step on the next `size` images; no value ever comes to the host."""
    rows = track.order.index_select(0, track.position + track.offsets[:size])
    loss, right = step(track.images.index_select(0, rows), track.labels.index_select(0, rows))
    track.loss_sum.add_(loss.double() * size)
    track.correct.add_(right)
    track.position.add_(size)


def batch_sizes(count: int, batch: int) -> list[int]:
    """All full batches, then the rest: it is never dropped."""
    return [batch] * (count // batch) + [count % batch] * (count % batch > 0)


@dataclass(frozen=True)
class Recorded:
    """Steps on one track, by their batch's size. They hold no reference to the model: the graph knows addresses."""

    track: Track
    steps: Mapping[int, Callable[[], None]]

    def fits(self, images: Tensor, batch: int) -> bool:
        return self.track.images is images and len(self.track.offsets) == batch


def record(
    track: Track, step: Step, sizes: Iterable[int], *, undo: Callable[[], None], recorder: Recorder | None = None
) -> Recorded:
    """Warms up, has `undo` put everything back in place that the warm-up changed, and records a step of each size.

    Raises RuntimeError where the device or a module of the model cannot be captured.
    """
    recorder = recorder or record_graph
    sizes = sorted(set(sizes), reverse=True)  # the full batch first: its memory is enough for the smaller one

    def each() -> None:
        for size in sizes:
            track.position.zero_()
            advance(track, step, size)

    warm_up(each, track.labels.device)
    undo()
    steps: dict[int, Callable[[], None]] = {}
    pool = None
    for size in sizes:
        steps[size] = recorder(lambda size=size: advance(track, step, size), pool)  # type: ignore[misc]
        pool = getattr(steps[size], "pool", None)
    track.rewind(track.order)
    return Recorded(track, steps)


def warm_up(run: Callable[[], object], device: torch.device) -> None:
    if device.type != "cuda":
        for _ in range(WARM_UP):
            run()
        return
    here, aside = torch.cuda.current_stream(device), torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(here)
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            run()
    here.wait_stream(aside)


class Replay:
    """A captured graph; `pool` is its memory, which a graph that never runs beside it may share."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph
        self._lead = Lead()
        self.pool = graph.pool()

    def __call__(self) -> None:
        self._graph.replay()
        self._lead.hold()


def record_graph(run: Callable[[], None], pool: Any) -> Replay:
    """Captures `run`. Its random numbers follow torch's stream at each replay, as they would eagerly."""
    graph = torch.cuda.CUDAGraph()
    with capturing(graph, pool):
        run()
    return Replay(graph)


@contextmanager
def capturing(graph: torch.cuda.CUDAGraph, pool: Any = None) -> Iterator[None]:
    """Captures what is launched within, on the current device. A capture that fails leaves the stream as it was."""
    before = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=capture_stream(before.device_index)):
            yield
    except BaseException:  # torch does not leave its stream where ending an invalid capture raises
        torch.cuda.set_stream(before)
        raise


@lru_cache
def capture_stream(device_index: int) -> torch.cuda.Stream:
    """One for each device: torch's own is made on whichever device comes first, and kept for all of them."""
    return torch.cuda.Stream(device_index)  # type: ignore[no-untyped-call]


class Lead:
    """Holds the host back: a replay is one launch, so that without it a whole epoch would be queued in an instant, and
    a signal noticed only at its end.
    """

    def __init__(self) -> None:
        self._launched = 0
        self._marks: deque[torch.cuda.Event] = deque()

    def hold(self) -> None:
        """To be called after each replay; waits where the device is more than two or three times MARK_EVERY behind."""
        self._launched += 1
        if self._launched % MARK_EVERY:
            return
        mark = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        mark.record()
        self._marks.append(mark)
        if len(self._marks) > 2:
            self._marks.popleft().synchronize()
