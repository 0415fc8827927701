"""Reading from a source that may say nothing for long, while a stop is still heard.

A name that is looked up, a connection, a TLS handshake or a read blocks in the C library, and Python goes on with it
after a signal (PEP 475). So it happens in a thread of its own, and the caller looks up several times a second.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

LOOK_UP_SECONDS = 0.1
WAITING = 16  # pieces that have arrived and are not yet taken
CHUNK = 1 << 16


class Stream(Protocol):
    """An open download: `read1` gives at most `size` bytes as soon as there are any, and none at the end.

    `length` counts the bytes of this answer, None where the source does not say.
    """

    length: int | None

    def read1(self, size: int, /) -> bytes: ...


Opener = Callable[..., AbstractContextManager[Stream]]  # of an address; where in it, and of which content
Item = Stream | bytes | BaseException


@dataclass(frozen=True)
class Listener:
    """Takes what the thread has read. `poll` is called while it waits and may raise; `timeout` is in seconds."""

    source: Stream
    length: int | None
    next: Callable[[], Item]

    def read1(self, size: int, /) -> bytes:
        """The next piece, of at most CHUNK bytes whatever `size` says; none at the end."""
        piece = self.next()
        assert isinstance(piece, bytes)
        return piece


class Pieces:
    """What a thread has read and nobody has taken yet; `left` once nobody will."""

    def __init__(self) -> None:
        self._items: queue.Queue[Item] = queue.Queue(WAITING)
        self.left = threading.Event()

    def put(self, item: Item) -> bool:
        """False once nobody listens any more."""
        while not self.left.is_set():
            try:
                self._items.put(item, timeout=LOOK_UP_SECONDS)
                return True
            except queue.Full:
                continue
        return False

    def read_all(self, opener: Opener, url: str) -> None:
        """The thread's part."""
        try:
            with opener(url) as stream:
                self.put(stream)
                while self.put(piece := stream.read1(CHUNK)) and piece:
                    pass
        except BaseException as error:  # told by whoever listens
            self.put(error)

    def take(self, poll: Callable[[], object], timeout: float) -> Item:
        """The next one. Raises what came in its place, what `poll` raises, and TimeoutError."""
        until = time.monotonic() + timeout
        while True:
            poll()
            try:
                item = self._items.get(timeout=LOOK_UP_SECONDS)
            except queue.Empty:
                if time.monotonic() >= until:
                    raise TimeoutError("timed out") from None
                continue
            if isinstance(item, BaseException):
                raise item
            return item


@contextmanager
def opened(opener: Opener, url: str, poll: Callable[[], object], timeout: float) -> Iterator[Listener]:
    """Opens `url` and reads ahead. Raises what the opener and its stream raise, what `poll` raises, and TimeoutError
    where nothing comes for `timeout` seconds, whatever the thread is waiting for.
    """
    pieces = Pieces()
    threading.Thread(target=pieces.read_all, args=(opener, url), name="download", daemon=True).start()
    try:
        stream = pieces.take(poll, timeout)
        assert not isinstance(stream, bytes | BaseException)
        yield Listener(stream, stream.length, lambda: pieces.take(poll, timeout))
    finally:
        pieces.left.set()
