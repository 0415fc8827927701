"""A training step that needs nothing from the host: it finds its batch by a counter on the device, so that it can be
recorded once as a CUDA graph and replayed (https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).

Everything but `record_graph` runs on a CPU as well, where tests compare it with the eager step bit by bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor

MARK_EVERY = 16  # replays between two marks by which the host sees how far the device is
WARM_UP = 3  # steps on the capture's stream before it, as torch's notes on CUDA graphs ask

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""Images, labels and row numbers of a batch to its mean loss and count of right answers, see `engine.train_step`."""
Recorder = Callable[[Callable[[], None], Any], Callable[[], None]]
"""What makes a replay of a function; the second argument is a memory pool to share, None for a new one."""


@dataclass(frozen=True)
class Track:
    """Tensors that stay where they are in memory: a recorded step reads from them and writes to them.

    `images` uint8 `[count, 32, 32, 3]`, or where they are `staged` `[batch, 32, 32, 3]`, those of the next step;
    `labels` int64 `[count]`, `order` int64 `[count]`: the rows as this epoch takes them; `position` int64: how many of
    them are done; `loss_sum` float64 and `correct` int64 over the epoch;
    `offsets` int64 `[batch]`: 0, 1, 2, ...
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


def lay_track(images: Tensor, labels: Tensor, batch: int, *, staged: bool = False) -> Track:
    """`staged`: the images lie elsewhere, and each batch is `brought` before its step."""

    def scalar(dtype: torch.dtype) -> Tensor:
        return torch.zeros((), dtype=dtype, device=labels.device)

    here = images if not staged else images.new_zeros(batch, *images.shape[1:], device=labels.device)
    return Track(
        here,
        labels,
        torch.arange(len(labels), device=labels.device),
        scalar(torch.int64),
        scalar(torch.float64),
        scalar(torch.int64),
        torch.arange(batch, device=labels.device),
        staged,
    )


def brought(track: Track, batches: Iterable[Tensor]) -> Iterator[int]:
    """Puts batch after batch where the recorded step looks for it, each when the one before is launched, and gives its
    size.
    """
    for images in batches:
        track.images[: len(images)].copy_(images)
        yield len(images)


def advance(track: Track, step: Step, size: int) -> None:
    """One step on the next `size` images; no value ever comes to the host."""
    rows = track.order.index_select(0, track.position + track.offsets[:size])
    images = track.images[:size] if track.staged else track.images.index_select(0, rows)
    loss, right = step(images, track.labels.index_select(0, rows), rows)
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

    def fits(self, labels: Tensor, batch: int) -> bool:
        """Whether they are steps on these very images, which have their own labels."""
        return self.track.labels is labels and len(self.track.offsets) == batch


def record(
    track: Track, step: Step, sizes: Iterable[int], *, undo: Callable[[], None], recorder: Recorder | None = None
) -> Recorded:
    """Warms up, has `undo` put everything back in place that the warm-up changed, and records a step of each size.

    Raises RuntimeError where the device or a module of the model cannot be captured; `undo` was called then as well.
    """
    recorder = recorder or record_graph
    sizes = sorted(set(sizes), reverse=True)  # the full batch first: its memory is enough for the smaller one
    steps: dict[int, Callable[[], None]] = {}
    pool = None
    try:
        with aside(track.labels.device):
            for _ in range(WARM_UP):
                for size in sizes:
                    track.position.zero_()
                    advance(track, step, size)
            undo()
            for size in sizes:
                steps[size] = recorder(lambda size=size: advance(track, step, size), pool)  # type: ignore[misc]
                pool = getattr(steps[size], "pool", None)
    except BaseException:
        undo()
        raise
    track.rewind(track.order)
    return Recorded(track, steps)


@contextmanager
def aside(device: torch.device) -> Iterator[None]:
    """On a stream for captures: after all that was launched before, and before all that comes after. On a CPU, nothing.

    The warm-up runs there as well: cuBLAS keeps a workspace for every stream that it has worked on.
    """
    if device.type != "cuda":
        yield
        return
    here = torch.cuda.current_stream(device)
    there = capture_stream(here.device_index)
    there.wait_stream(here)
    try:
        with torch.cuda.stream(there):
            yield
    finally:
        torch.cuda.set_stream(here)
        here.wait_stream(there)


@lru_cache
def lanes(device_index: int) -> list[tuple[torch.cuda.Stream, WeakSet[torch.cuda.CUDAGraph]]]:
    """The streams for captures that there are so far, each with the graphs alive that were captured on it."""
    return []


def capture_stream(device_index: int) -> torch.cuda.Stream:
    """A stream that no living graph was captured on: the end of one of them would free the workspace of cuBLAS that all
    graphs of its stream use (torch 2.14, https://github.com/pytorch/pytorch/issues/193402).
    """
    for stream, graphs in lanes(device_index):
        if not graphs:
            return stream
    stream = torch.cuda.Stream(device_index)  # type: ignore[no-untyped-call]
    lanes(device_index).append((stream, WeakSet()))
    return stream


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
    """Captures what is launched within, on the current stream (see `aside`). One that fails leaves it as it was."""
    stream = torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, pool=pool, stream=stream):
            yield
    except BaseException:
        torch.cuda.set_stream(stream)  # which torch does not do where ending an invalid capture raises
        end_capture(stream)
        raise
    for lane, graphs in lanes(stream.device_index):
        if lane == stream:
            graphs.add(graph)


def end_capture(stream: torch.cuda.Stream) -> None:
    """After a capture that failed: torch's random stream may still take itself to be in it, so that dropout raises
    (https://github.com/pytorch/pytorch/issues/171263). The end of a capture that succeeds puts that right.
    """
    with suppress(RuntimeError):
        counter = torch.zeros((), device=stream.device)
        with torch.cuda.graph(torch.cuda.CUDAGraph(), stream=stream):
            counter.add_(1)


def why(error: RuntimeError) -> str:
    """What made a capture fail, on one line: ending an invalid one raises over what made it invalid."""
    cause = error.__context__ or error
    return next(iter(str(cause).splitlines()), type(cause).__name__)


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
