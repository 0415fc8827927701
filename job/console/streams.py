"""Standard output and error that never end a run: a reader may leave, a disk may fill up, both may be closed.

The files in OUTPUT are what counts; what a run says is for whoever listens.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import BinaryIO, TextIO, cast

GONE = {errno.EPIPE, errno.EBADF, errno.EIO, errno.ECONNRESET}  # for good; a full disk may get room again


class Unfailing(io.TextIOWrapper):
    """A text stream whose writes are lost where they fail; `failed` is what the last lost one met."""

    failed: OSError | None = None

    def write(self, text: str, /) -> int:
        try:
            super().write(text)
        except OSError as error:
            self._lost(error)
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._lost(error)

    def _lost(self, error: OSError) -> None:
        self.failed = error
        if error.errno in GONE:
            to_nowhere(self.fileno())


def to_nowhere(descriptor: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def hold() -> None:
    """Makes the process's own standard streams unfailing. What is closed is opened to nowhere first: else the next file
    that is opened got its number, and everything that is printed would go into it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            to_nowhere(descriptor)
    sys.stdout = unfailing(sys.stdout, 1)
    sys.stderr = unfailing(sys.stderr, 2)


def unfailing(stream: TextIO | None, descriptor: int) -> TextIO:
    """The stream's own bytes in a text layer that cannot fail; signs that its encoding lacks are spelled out."""
    if stream is None:
        nowhere: BinaryIO = io.BufferedWriter(io.FileIO(descriptor, "w", closefd=False))
        return Unfailing(nowhere, "utf-8", errors="backslashreplace")
    encoding, by_line = stream.encoding, getattr(stream, "line_buffering", False)
    raw = cast(BinaryIO, stream.detach())  # type: ignore[attr-defined]
    return Unfailing(raw, encoding, errors="backslashreplace", line_buffering=by_line)
