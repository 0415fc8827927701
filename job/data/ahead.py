"""Work that threads do ahead, its results taken in order; whoever waits for them hears a stop."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

AHEAD = 16  # results of a thread that may wait to be taken
LOOK_SECONDS = 0.1  # between two looks at the signals


def in_order(
    items: Iterable[S], do: Callable[[S], T], threads: int, check: Callable[[], object], ahead: int = AHEAD
) -> Iterator[T]:
    """What `do` makes of each item, in their order. No more than `ahead` results a thread wait for whoever takes them,
    so that memory does not grow with the count of items.

    Raises what `do` raises in the place of its result, and what `check` raises, which is called while a result is
    waited for. The threads are left behind then: what they read may hang, and they begin nothing more.
    """
    work: queue.SimpleQueue[tuple[Future[T], S] | None] = queue.SimpleQueue()
    left = threading.Event()

    def serve() -> None:
        while (given := work.get()) is not None and not left.is_set():
            future, item = given
            try:
                future.set_result(do(item))
            except BaseException as error:
                future.set_exception(error)

    waiting: deque[Future[T]] = deque()
    started = 0
    try:
        for item in items:
            if len(waiting) >= ahead * threads:
                yield taken(waiting.popleft(), check)
            waiting.append(Future())
            work.put((waiting[-1], item))
            if started < threads:
                threading.Thread(target=serve, name=f"ahead {started}", daemon=True).start()
                started += 1
        while waiting:
            yield taken(waiting.popleft(), check)
    finally:
        left.set()
        for _ in range(started):
            work.put(None)


def taken(future: Future[T], check: Callable[[], object]) -> T:
    """The result. Raises what came in its place, and what `check` raises while it is waited for."""
    while True:
        try:
            return future.result(timeout=LOOK_SECONDS)
        except NotYet:
            if future.done():  # the work itself says so
                raise
            check()
