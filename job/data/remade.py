"""Images made of others: a part of them, or larger ones. In memory, or where that is too small, in a nameless file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from job.console.logs import event
from job.device.mapping import Mapping
from job.device.memory import free_on_host
from job.storage.room import free, size

SHARE = 0.5  # of free memory that images may take: a part of them is copied for the search, and a step needs its own
AT_ONCE = 1000  # images that are made together

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Made:
    """Images uint8 `[count, side, side, 3]` for each part; all of them parts of `mapping`, where there is one."""

    parts: tuple[Images, ...]
    mapping: Mapping | None = None


def made(pieces: Iterator[Images], counts: Sequence[int], side: int, directory: Path) -> Made:
    """The images that come in `pieces`, part after part, `counts` of each."""
    shape = (sum(counts), side, side, 3)
    length = sum(counts) * side**2 * 3
    ends = np.cumsum(counts)
    file = None if length <= SHARE * free_on_host() else nameless(directory, length)
    if file is None:
        images, mapping, start = np.empty(shape, np.uint8), None, 0
        for piece in pieces:
            images[start : start + len(piece)] = piece
            start += len(piece)
    else:
        with file:
            for piece in pieces:
                file.write(np.ascontiguousarray(piece).data)
            file.flush()
            mapping = Mapping(file, shape)
        images = mapping.array
    return Made(tuple(images[end - count : end] for end, count in zip(ends, counts, strict=True)), mapping)


def nameless(directory: Path, length: int) -> IO[bytes] | None:
    """A file that is gone with this process; None where none has room."""
    for place in (directory, Path(tempfile.gettempdir())):
        with suppress(OSError):
            if place.is_dir() and free(place) > length:
                file = tempfile.TemporaryFile(dir=place)  # noqa: SIM115  (whoever asked closes it)
                event(
                    "data", f"{size(length)} of images, more than half of the free memory, are put on the disk: {place}"
                )
                return file
    event("data", f"{size(length)} of images: neither memory nor {directory} has room for them", level="WARNING")
    return None
