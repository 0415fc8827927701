"""A person's own images: `train/<class>/*` and `test/<class>/*`, JPEG or PNG of any size.

Decoded once with all cores, then kept as one cache file; any change in the tree makes a new one.
"""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from job.console.logs import concerning, event, printable
from job.data.arrays import Arrays
from job.data.download import Bar
from job.errors import Fault, os_faults

SUFFIXES = (".jpg", ".jpeg", ".png")
SIDE = 32
CACHE_FORMAT = 1  # raise it when decoding changes, so that older caches are not taken
LAYOUT = "DATA_DIR must hold train/<class>/* and test/<class>/* with JPEG or PNG files."


@dataclass(frozen=True)
class Tree:
    """The image files of a data set and a fingerprint (hex) of their names, sizes and modification times."""

    root: Path
    classes: tuple[str, ...]
    train: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    fingerprint: str

    def test_names(self) -> tuple[str, ...]:
        """The test images' paths below `root`; bytes that are no UTF-8 are spelled out, as in `\\xff`."""
        paths = (os.fsencode(file.relative_to(self.root).as_posix()) for file, _ in self.test)
        return tuple(path.decode("utf-8", "backslashreplace") for path in paths)


def load(root: Path, *, bar: Bar) -> Arrays:
    """All images below `root`, resized to 32x32 RGB.

    Raises Fault, naming the file or folder, for an unreadable image or a tree of another layout.
    """
    with os_faults(f"DATA_DIR: cannot read {root}", "DATA_DIR"):
        tree = scan(root)
    places = cache_places(tree)
    for place in places:
        arrays = read_cache(place, tree)
        if arrays is not None:
            event("data", f"decoded images taken from the cache {place}")
            return arrays
    arrays = decode(tree, bar)
    for place in places:
        if write_cache(place, tree, arrays):
            event("data", f"decoded images cached in {place}")
            break
    else:
        event("data", f"no place to cache the decoded images (tried {', '.join(map(str, places))})", level="WARNING")
    return arrays


def scan(root: Path) -> Tree:
    """Lists the tree. Raises Fault where the layout is not the documented one."""
    if not root.is_dir():
        raise Fault(f"DATA_DIR: {root} is not a directory.", LAYOUT)
    parts = {part: list(class_folders(root, part)) for part in ("train", "test")}
    classes = tuple(folder.name for folder in parts["train"])
    unknown = sorted({folder.name for folder in parts["test"]} - set(classes))
    if unknown:
        raise Fault(
            f"DATA_DIR: {root / 'test'} has classes that train/ lacks: {', '.join(map(printable, unknown))}.", LAYOUT
        )
    if len(classes) < 2:
        raise Fault(f"DATA_DIR: {root / 'train'} has {len(classes)} class folder(s); a classifier needs two.", LAYOUT)
    digest = hashlib.sha256(f"{CACHE_FORMAT}".encode())
    listed: dict[str, list[tuple[Path, int]]] = {"train": [], "test": []}
    ignored = 0
    for part, folders in parts.items():
        for folder in folders:
            label, before = classes.index(folder.name), len(listed[part])
            for file, status in files_in(folder):
                if file.suffix.lower() not in SUFFIXES:
                    ignored += not file.name.startswith(".")
                    continue
                line = f"{file.relative_to(root)}\0{status.st_size}\0{status.st_mtime_ns}\n"
                digest.update(line.encode("utf-8", "surrogateescape"))
                listed[part].append((file, label))
            if part == "train" and len(listed[part]) == before:
                raise Fault(f"DATA_DIR: {printable(str(folder))} holds no JPEG or PNG file.", LAYOUT)
        if not listed[part]:
            raise Fault(f"DATA_DIR: {root / part} holds no JPEG or PNG file.", LAYOUT)
    if ignored:
        event("data", f"{root}: {ignored} file(s) ignored that are not {', '.join(SUFFIXES)}", level="WARNING")
    return Tree(root, classes, tuple(listed["train"]), tuple(listed["test"]), digest.hexdigest())


def class_folders(root: Path, part: str) -> Iterator[Path]:
    if not (root / part).is_dir():
        raise Fault(f"DATA_DIR: {root / part} is not a directory.", LAYOUT)
    yield from sorted(p for p in (root / part).iterdir() if p.is_dir() and not p.name.startswith("."))


def files_in(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The files of one class folder in alphabetical order, so that the order does not depend on the file system."""
    with os.scandir(folder) as entries:
        return sorted((Path(entry.path), entry.stat()) for entry in entries if entry.is_file())


def decode(tree: Tree, bar: Bar) -> Arrays:
    """Decodes every image. Threads suffice: Pillow leaves the interpreter lock while it decodes and resizes."""
    files = [file for file, _ in (*tree.train, *tree.test)]
    images = np.empty((len(files), SIDE, SIDE, 3), dtype=np.uint8)
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool, bar("decode images", len(files), "images") as update:
        try:
            for row, image in enumerate(pool.map(read_image, files)):
                images[row] = image
                update(1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    split = len(tree.train)
    labels = np.array([label for _, label in (*tree.train, *tree.test)], dtype=np.int64)
    train, test = slice(None, split), slice(split, None)
    return Arrays(
        str(tree.root), tree.classes, images[train], labels[train], images[test], labels[test], tree.test_names()
    )


def read_image(file: Path) -> NDArray[np.uint8]:
    """uint8 `[32, 32, 3]`. A camera's orientation tag is followed, 16-bit greyscale is scaled, greyscale becomes RGB.

    Raises Fault, naming the file, where it cannot be read.
    """
    try:
        with os_faults(f"DATA_DIR: cannot read {printable(str(file))}", "DATA_DIR"), concerning(file):
            return decoded(file)
    except ValueError as error:
        raise Fault(
            f"DATA_DIR: {printable(str(file))} cannot be read: {error}.", "Mend or remove this file."
        ) from error


def decoded(source: Path | io.BytesIO, side: int = SIDE) -> NDArray[np.uint8]:
    """uint8 `[side, side, 3]`, as `read_image` says. Raises ValueError with the reason where it is not an image, and
    OSError where the file could not be read: that says nothing about the image.
    """
    try:
        with Image.open(source) as image:
            image = ImageOps.exif_transpose(image)
            if image.mode.startswith("I"):
                image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
            image = image.convert("RGB")
            if image.size != (side, side):
                image = image.resize((side, side), Image.Resampling.BILINEAR)
            return np.asarray(image)
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and more
        if isinstance(error, OSError) and error.errno:  # the system's, not Pillow's
            raise
        raise ValueError("not a readable image" if isinstance(error, UnidentifiedImageError) else str(error)) from error


def cache_places(tree: Tree) -> list[Path]:
    """Where the cache may be, best first: in the tree, beside it, or (for a read-only tree) in the temporary folder."""
    name = f".{tree.root.resolve().name}-{SIDE}x{SIDE}.npz"
    return [directory / name for directory in (tree.root, tree.root.resolve().parent, Path(tempfile.gettempdir()))]


def read_cache(place: Path, tree: Tree) -> Arrays | None:
    """The cached arrays where the file is there, whole and of this very tree."""
    try:
        with np.load(place, allow_pickle=False) as stored:  # the zip's CRC-32 tells a damaged file
            if str(stored["fingerprint"]) != tree.fingerprint:
                return None
            parts = {key: stored[key] for key in ("train_images", "train_labels", "test_images", "test_labels")}
            return Arrays(str(tree.root), tree.classes, **parts, test_names=tree.test_names())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        event("data", f"{place}: damaged cache, decoding again ({error})", level="WARNING")
        return None


def write_cache(place: Path, tree: Tree, arrays: Arrays) -> bool:
    """Writes the cache whole or not at all; False where the place cannot be written."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=".decoding-", suffix=".part", dir=place.parent)
    except OSError:
        return False
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(
                file,
                fingerprint=np.array(tree.fingerprint),
                train_images=arrays.train_images,
                train_labels=arrays.train_labels,
                test_images=arrays.test_images,
                test_labels=arrays.test_labels,
            )
        os.replace(name, place)
        return True
    except OSError:
        Path(name).unlink(missing_ok=True)
        return False
