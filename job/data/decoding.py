"""The image files of a data set, all of them, read and decoded with all cores."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from job.console.logs import concerning, printable
from job.data.download import Bar
from job.data.files import spelled
from job.data.picture import Picture, Shape, decoded
from job.errors import is_permanent, os_fault

CUT_OFF = "its last bytes are missing; what is there was used"

T = TypeVar("T")


@dataclass(frozen=True)
class Decoded:
    """Images uint8 `[count, side, side, 3]`, the files' own widths and heights int32 `[count, 2]` (0 where an image
    cannot be read), and what was found of those that are damaged, as JSON.
    """

    images: NDArray[np.uint8]
    sizes: NDArray[np.int32]
    notes: list[dict[str, Any]]


def decode(files: Sequence[Path], root: Path, shape: Shape, bar: Bar) -> Decoded:
    """Every image, those that cannot be read black, with what was found of them. Threads suffice: Pillow leaves the
    interpreter lock while it decodes and resizes.
    """
    images = np.zeros((len(files), shape.side, shape.side, 3), dtype=np.uint8)
    sizes = np.zeros((len(files), 2), dtype=np.int32)
    notes = []
    for row, read in enumerate(in_threads(files, partial(read_image, shape=shape), bar, "decode images")):
        name = spelled(files[row].relative_to(root))
        if isinstance(read, str):
            notes.append({"file": name, "reason": read, "row": row, "used": False})
            continue
        images[row], sizes[row] = read.pixels, read.size
        if read.cut_off:
            notes.append({"file": name, "reason": CUT_OFF, "row": row, "used": True})
    return Decoded(images, sizes, notes)


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
    """What `do` makes of each file, in their order, with as many threads as there are cores."""
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, bar(title, len(files), "images") as update:
        try:
            for result in pool.map(do, files):
                update(1)
                yield result
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def content_of(file: Path) -> str:
    """SHA-256 (hex) of a file's bytes; empty where it cannot be read, which whoever decodes it will tell."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        if is_permanent(error) or error.errno == errno.ENOENT:
            return ""
        raise os_fault(error, f"cannot read {printable(str(file))}", "DATA_DIR", "read") from error
