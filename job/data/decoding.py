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
from job.data.picture import Shape, decoded, is_cut_off
from job.errors import is_permanent, os_fault

CUT_OFF = "its last bytes are missing; what is there was used"

Decoded = tuple[NDArray[np.uint8], list[dict[str, Any]]]
"""Images `[count, side, side, 3]`, and what was found of those that are damaged, as JSON."""
T = TypeVar("T")


def decode(files: Sequence[Path], root: Path, shape: Shape, bar: Bar) -> Decoded:
    """Every image, those that cannot be read black, with what was found of them. Threads suffice: Pillow leaves the
    interpreter lock while it decodes and resizes.
    """
    images = np.zeros((len(files), shape.side, shape.side, 3), dtype=np.uint8)
    notes = []
    for row, image in enumerate(in_threads(files, partial(read_image, shape=shape), bar, "decode images")):
        name = spelled(files[row].relative_to(root))
        if isinstance(image, str):
            notes.append({"file": name, "reason": image, "row": row, "used": False})
            continue
        images[row] = image.pixels
        if image.cut_off:
            notes.append({"file": name, "reason": CUT_OFF, "row": row, "used": True})
    return images, notes


@dataclass(frozen=True)
class Read:
    """A decoded image, uint8 `[side, side, 3]`; `cut_off` where its last bytes are missing."""

    pixels: NDArray[np.uint8]
    cut_off: bool


def read_image(file: Path, shape: Shape) -> Read | str:
    """The image, or why it cannot be read. Raises TemporaryFault where that may pass."""
    try:
        with concerning(printable(str(file))):
            content = file.read_bytes()
            return Read(decoded(content, shape), is_cut_off(content))
    except ValueError as error:
        return " ".join(str(error).split())
    except OSError as error:
        if file.is_symlink() and not file.exists():
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
