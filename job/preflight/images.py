"""What the images of a folder are like, as a run would tell it: as many as can be decoded in a short time."""

from __future__ import annotations

import hashlib
import os
import random
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from job.data import decoding, folder
from job.data.arrays import Bad
from job.data.picture import Shape, content
from job.data.survey import LONG, Part, Sizes, Survey, counted, equal_ones, few, sizes, unfit
from job.device.cgroup import cores
from job.preflight.findings import Finding, ok, warn

SECONDS = 10.0  # that images are decoded for, at most, and that each way of comparing files may take
AT_ONCE = 256  # files between two looks at the clock
TAIL = 4096  # bytes at the end of a file that tell nearly all files apart
MENDED = "Mend it, or take the figures for what they are."

T = TypeVar("T")


@dataclass(frozen=True)
class Seen:
    """What was found of the images that were decoded: a hash of each one's pixels as the model would see them, their
    files' widths and heights int32 `[images, 2]`, and those that cannot be read. `whole`: it was every image.
    """

    contents: dict[Path, bytes]
    sizes: NDArray[np.int32]
    faults: list[Bad]
    whole: bool

    def __len__(self) -> int:
        return len(self.contents) + len(self.faults)


class TooMany(Exception):
    """The time is over."""


def decoded(tree: folder.Tree, shape: Shape, check: Callable[[], object]) -> Seen:
    """Decodes images in a random order until all are or the time is over. `check` may raise."""
    files = tree.files()
    contents, measures, faults = {}, [], []

    def look(file: Path) -> tuple[bytes, tuple[int, int]] | str:
        read = decoding.read_image(file, shape)
        return read if isinstance(read, str) else (content(read.pixels), read.size)

    order = random.Random(0).sample(files, len(files))
    try:
        for file, found in in_time(order, look, check):
            if isinstance(found, str):
                faults.append(Bad(tree.name(file), found, 0, used=False))
            else:
                contents[file] = found[0]
                measures.append(found[1])
    except TooMany:
        pass
    seen = len(contents) + len(faults)
    return Seen(contents, np.array(measures, np.int32).reshape(-1, 2), faults, seen == len(files))


def in_time(files: Sequence[Path], do: Callable[[Path], T], check: Callable[[], object]) -> Iterator[tuple[Path, T]]:
    """Each file with what `do` makes of it, with all cores. Raises TooMany where SECONDS are over before the end."""
    until = time.monotonic() + SECONDS
    with ThreadPoolExecutor(cores()) as pool:
        for start in range(0, len(files), AT_ONCE):
            check()
            if time.monotonic() > until:
                raise TooMany
            part = files[start : start + AT_ONCE]
            yield from zip(part, pool.map(do, part), strict=True)


def findings(tree: folder.Tree, seen: Seen, shape: Shape, check: Callable[[], object]) -> list[Finding]:
    """Sizes, equal images and whatever else makes figures on them doubtful, in a run's own words."""
    found, compared = surveyed(tree, seen, shape, check)
    told = ([] if found.sizes is None else [measured(found.sizes)]) + [compared]
    doubts = equal_ones(found) + few(found, tree.classes)
    doubts += unfit(found.sizes) if found.sizes else []
    return [ok("images", "; ".join(told)), *(warn("images", doubt, MENDED) for doubt in doubts)]


def surveyed(tree: folder.Tree, seen: Seen, shape: Shape, check: Callable[[], object]) -> tuple[Survey, str]:
    """The survey, and how images were compared: by their pixels where all are decoded, else by their files' bytes."""
    contents: dict[Path, Hashable] = dict(seen.contents)
    compared = "all compared by their pixels"
    if not seen.whole:
        try:
            contents, compared = by_bytes(tree.files(), check), "all compared by their files' bytes"
        except TooMany:
            contents, compared = {}, "too many to look for equal ones here: a run does"

    def part(files: folder.Labelled) -> Part:
        labels = np.array([label for _, label in files], np.int64)
        return Part(labels, [contents.get(file, file) for file, _ in files])

    parts = part(tree.train), part(tree.validation) if tree.validation else None, part(tree.test)
    names = [tree.name(file) for file, _ in tree.test]
    return counted(len(tree.classes), parts, names, sizes(seen.sizes, shape)), compared


def by_bytes(files: Sequence[Path], check: Callable[[], object]) -> dict[Path, Hashable]:
    """The same for files with the same bytes. Only those are read whole that have both length and end in common."""
    groups = [list(files)]
    for key in (length, tail, decoding.content_of):
        groups = [same for group in groups for same in alike(group, key, check)]
    return {file: number for number, group in enumerate(groups) for file in group}


def alike(files: Sequence[Path], key: Callable[[Path], T], check: Callable[[], object]) -> list[list[Path]]:
    """The groups of several files for which `key` says the same."""
    groups: dict[T, list[Path]] = {}
    for file, said in in_time(files, key, check):
        groups.setdefault(said, []).append(file)
    return [group for group in groups.values() if len(group) > 1]


def length(file: Path) -> int:
    """In bytes; -1 for what cannot be read, which decoding has told or will tell."""
    try:
        return file.stat().st_size
    except OSError:
        return -1


def tail(file: Path) -> bytes:
    """A hash of its last bytes."""
    try:
        with file.open("rb") as opened:
            opened.seek(-min(TAIL, length(file)), os.SEEK_END)
            return hashlib.sha256(opened.read()).digest()
    except (OSError, ValueError):
        return b""


def measured(found: Sizes) -> str:
    """The sizes in words."""
    smallest, median, largest = (f"{size[0]:,}x{size[1]:,}" for size in (found.smallest, found.median, found.largest))
    fewer, long = 100 * found.enlarged / found.images, 100 * found.long / found.images
    return (
        f"{smallest} to {largest} pixels, in the middle {median}; {fewer:.0f} % have fewer than "
        f"IMAGE_SIZE={found.side}, {long:.0f} % are longer than {LONG:g} to 1 (RESIZE={found.resize})"
    )
