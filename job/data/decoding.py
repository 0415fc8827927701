"""The image files of a data set, all of them, read and decoded with all cores."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from job.console.logs import concerning, printable
from job.data.ahead import in_order
from job.data.download import Bar
from job.data.files import spelled
from job.data.picture import HASH, Picture, Shape, content, decoded
from job.device.cgroup import cores
from job.device.mapping import Mapping
from job.errors import is_permanent, os_fault

CUT_OFF = "its last bytes are missing; what is there was used"

T = TypeVar("T")


Sink = Callable[[NDArray[np.uint8]], object]
"""Takes an image, uint8 `[side, side, 3]`, and keeps it behind those before."""


@dataclass(frozen=True)
class Found:
    """Of the images that can be read: their files' own widths and heights, int32 `[count, 2]`, and a hash of each one's
    pixels as they were brought to size, uint8 `[count, HASH]`. And, as JSON, what was found of those that are damaged;
    `row` is a file's place among all of them.
    """

    sizes: NDArray[np.int32]
    contents: NDArray[np.uint8]
    notes: list[dict[str, Any]]


@dataclass(frozen=True)
class Decoded:
    """The images that can be read, in their files' order, uint8 `[count, side, side, 3]`, mostly those of a `mapping`;
    not to be written to.
    """

    images: NDArray[np.uint8]
    found: Found
    mapping: Mapping | None = None


def decode(files: Sequence[Path], root: Path, shape: Shape, bar: Bar, sink: Sink) -> Found:
    """Every image that can be read goes to `sink`, in order; no more than a few wait for that, so that memory does not
    grow with their count. Threads suffice: Pillow leaves the interpreter lock while it decodes and resizes.
    """
    sizes, contents, notes = [], [], []

    def look(file: Path) -> tuple[Picture, bytes] | str:
        read = read_image(file, shape)
        return read if isinstance(read, str) else (read, content(read.pixels))

    for row, found in enumerate(in_threads(files, look, bar, "decode images")):
        if isinstance(found, str):
            notes.append({"file": spelled(files[row].relative_to(root)), "reason": found, "row": row, "used": False})
            continue
        read, hashed = found
        sink(read.pixels)
        sizes.append(read.size)
        contents.append(hashed)
        if read.cut_off:
            notes.append({"file": spelled(files[row].relative_to(root)), "reason": CUT_OFF, "row": row, "used": True})
    hashes = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, HASH)
    return Found(np.array(sizes, dtype=np.int32).reshape(-1, 2), hashes, notes)


def decode_into_memory(count: int, side: int, decode_to: Callable[[Sink], Found]) -> Decoded:
    """For where no file can be kept; `count` is the most images that there can be."""
    images = np.empty((count, side, side, 3), dtype=np.uint8)
    rows = iter(images)

    def sink(pixels: NDArray[np.uint8]) -> None:
        next(rows)[:] = pixels

    found = decode_to(sink)
    return Decoded(images[: len(found.sizes)], found)


def read_image(file: Path, shape: Shape) -> Picture | str:
    """The image, or why it cannot be read. Raises TemporaryFault where that may pass."""
    try:
        with concerning(printable(str(file))):
            return decoded(file.read_bytes(), shape)
    except ValueError as error:
        return " ".join(str(error).split())
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and file.is_symlink():
            return "a link that leads nowhere"
        if is_permanent(error) or error.errno == errno.ENOENT:
            return os.strerror(error.errno or 0)
        raise os_fault(error, f"cannot read {printable(str(file))}", "DATA_DIR", "read") from error


def in_threads(files: Sequence[Path], do: Callable[[Path], T], bar: Bar, title: str) -> Iterator[T]:
    """What `do` makes of each file, in their order, with as many threads as there are cores (see `in_order`)."""
    with bar(title, len(files), "images") as update:
        for result in in_order(files, do, cores(), lambda: update(0)):
            yield result
            update(1)


def content_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes; empty where it cannot be read, which whoever decodes it will tell."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        if is_permanent(error) or error.errno == errno.ENOENT:
            return ""
        raise os_fault(error, f"cannot read {printable(str(file))}", "DATA_DIR", "read") from error
