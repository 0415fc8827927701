"""A file of bytes that is mapped into memory, and read past the mapping where memory would not hold it."""

from __future__ import annotations

import math
import mmap
import os
from typing import IO

import numpy as np
from numpy.typing import NDArray

from job.errors import TemporaryFault

KEPT = 128 << 20  # bytes looked at before what is mapped is given back


class Mapping:
    """The beginning of an open file as uint8 of `shape`, `[count, ...]`, which nobody writes to.

    `array` is mapped: what is looked at counts as this process's memory until `give_back`. `read` takes rows without
    that. The descriptor stays open, so that other processes can map the very same file (see `search.shared`).
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, ...]) -> None:
        self._file = os.fdopen(os.dup(file.fileno()), "rb", buffering=0)
        self._seen = 0  # bytes
        self.shape = shape
        self.row = math.prod(shape[1:])  # bytes
        length = math.prod(shape)
        self._memory = mmap.mmap(self._file.fileno(), length, access=mmap.ACCESS_READ) if length else None
        flat = np.zeros(0, np.uint8) if self._memory is None else np.frombuffer(self._memory, np.uint8)
        self.array: NDArray[np.uint8] = flat.reshape(shape)

    def fileno(self) -> int:
        return self._file.fileno()

    def looked_at(self, rows: int) -> None:
        """Gives back from time to time what whoever goes through all rows has left behind."""
        self._seen += rows * self.row
        if self._seen > KEPT:
            self.give_back()

    def give_back(self) -> None:
        """What was looked at is no longer this process's memory; looked at again, it is read again (madvise(2))."""
        self._seen = 0
        if self._memory is not None and hasattr(mmap, "MADV_DONTNEED"):
            self._memory.madvise(mmap.MADV_DONTNEED)

    def first_row(self, part: NDArray[np.uint8]) -> int:
        """At which row of `array` a slice of it begins."""
        if not part.size:
            return 0
        return (part.ctypes.data - self.array.ctypes.data) // self.row

    def read(self, rows: NDArray[np.int64], into: NDArray[np.uint8]) -> None:
        """Copies these rows, `into` uint8 `[len(rows), ...]`, contiguous.

        Raises TemporaryFault where the file has become shorter, or its disk fails: a mapping would end the process.
        """
        places = (rows * self.row).tolist()
        if hasattr(os, "posix_fadvise"):
            for place in places:  # all of them are on their way while the first is waited for
                os.posix_fadvise(self._file.fileno(), place, self.row, os.POSIX_FADV_WILLNEED)
        flat = into.reshape(len(rows), self.row)
        for target, place in zip(flat, places, strict=True):
            self._read_one(target.data, place)

    def _read_one(self, target: memoryview, place: int) -> None:
        done = 0
        while done < len(target):
            try:
                count = os.preadv(self._file.fileno(), [target[done:]], place + done)
            except OSError as error:
                raise lost(os.strerror(error.errno or 0)) from error
            if not count:
                raise lost("it was cut short")
            done += count


def lost(why: str) -> TemporaryFault:
    return TemporaryFault(
        f"the cache of decoded images can no longer be read: {why}.",
        "Start again: it is made anew where it is not whole, and the run goes on.",
    )
