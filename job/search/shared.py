"""The images of a search, once in memory, whatever the number of processes that train on them."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from job.data import Split
from job.data.split import split_of
from job.device.feed import Feed
from job.device.mapping import Mapping


def shared_file() -> IO[bytes]:
    """A file without a name, which is gone with its last user: in memory where the system can, else on disk.

    Not /dev/shm: a container has 64 MB there unless told otherwise, and one write beyond them kills the process.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("images"), "w+b")
    return tempfile.TemporaryFile()


@dataclass(frozen=True)
class Piece:
    """Where a tensor lies in the shared file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self, memory: mmap.mmap) -> Tensor:
        count = int(torch.Size(self.shape).numel())
        return torch.frombuffer(memory, dtype=self.dtype, offset=self.start, count=count).view(self.shape)


@dataclass(frozen=True)
class Laid:
    """A split in the shared file: its labels, and its images, or where these stay on the disk, their `rows` in the
    file that `disk` is the shape of. `fed`: they come in batches.
    """

    labels: Piece
    images: Piece | None
    rows: Piece | None
    disk: tuple[int, ...] | None
    fed: bool


def nothing() -> Split:
    """Stands for the images in a pickle."""
    return Split(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64))


@dataclass(frozen=True)
class SharedImages:
    """Train and validation in a shared file, and the one on the disk where their images stay there. Pickled while a
    process is being started, it hands the open files over to it.
    """

    descriptor: int
    parts: tuple[Laid, Laid]
    disk: int | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (DupFd(self.descriptor), self.parts, None if self.disk is None else DupFd(self.disk))

    def splits(self, device: torch.device) -> tuple[Split, Split]:
        """Train and validation for this device, from the one copy that all processes share."""
        memory, disk = mmap.mmap(self.descriptor, 0), None
        if self.disk is not None and self.parts[0].disk is not None:
            with os.fdopen(os.dup(self.disk), "rb") as file:
                disk = Mapping(file, self.parts[0].disk)

        def split(laid: Laid) -> Split:
            labels = laid.labels.read(memory)
            if laid.images is None:
                assert disk is not None
                assert laid.rows is not None
                whole = split_of(disk.array, np.zeros(0, np.int64)).images
                return Split(whole, labels.to(device), laid.rows.read(memory), Feed(device, disk))
            there = Split(laid.images.read(memory), labels)
            return there.fed(Feed(device)) if laid.fed else there.to(device)

        train, validation = map(split, self.parts)
        return train, validation


def share(train: Split, validation: Split, file: IO[bytes]) -> SharedImages:
    """Writes both splits into `file`, but for images that stay on the disk."""

    def laid(tensor: Tensor) -> Piece:
        start = -(-file.tell() // 64) * 64  # aligned as torch aligns its own tensors
        file.seek(start)
        file.write(tensor.cpu().contiguous().numpy().data)
        return Piece(start, tuple(tensor.shape), tensor.dtype)

    def part(split: Split) -> Laid:
        labels, feed = laid(split.labels), split.feed
        if feed is not None and feed.file is not None:
            rows = torch.arange(len(split)) if split.rows is None else split.rows
            return Laid(labels, None, laid(rows + feed.first), feed.file.shape, fed=True)
        images = laid(split.images if split.rows is None else split.images[split.rows])
        return Laid(labels, images, None, None, fed=feed is not None)

    parts = part(train), part(validation)
    file.flush()
    disk = train.feed.file if train.feed is not None else None
    return SharedImages(file.fileno(), parts, None if disk is None else disk.fileno())


def reopened(handle: Any, parts: tuple[Laid, Laid], disk: Any) -> SharedImages:
    return SharedImages(handle.detach(), parts, None if disk is None else disk.detach())
