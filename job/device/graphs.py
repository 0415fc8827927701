"""Functions on a GPU that are recorded once as CUDA graphs and replayed, hundreds of launches as one
(https://docs.pytorch.org/docs/stable/notes/cuda.html#cuda-graphs).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any
from weakref import WeakSet

import torch

MARK_EVERY = 8  # replays between two marks by which the host sees how far the device is
WARM_UP = 3  # steps on the capture's stream before it, as torch's notes on CUDA graphs ask

Recorder = Callable[[Callable[[], None], Any], Callable[[], None]]
"""What makes a replay of a function; the second argument is a memory pool to share, None for a new one."""


def record_all(
    device: torch.device,
    functions: Sequence[Callable[[], None]],
    warm_up: Callable[[], None],
    undo: Callable[[], None],
    recorder: Recorder | None = None,
) -> list[Callable[[], None]]:
    """Records functions that never run beside each other, after a few warm-ups, which `undo` takes back."""
    recorder, pool = recorder or record_graph, None
    recorded: list[Callable[[], None]] = []
    with aside(device):
        for _ in range(WARM_UP):
            warm_up()
        undo()
        for function in functions:
            recorded.append(recorder(function, pool))
            pool = getattr(recorded[-1], "pool", None)
    return recorded


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
