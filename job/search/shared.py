"""The images of a search, once in memory, whatever the number of processes that train on them."""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass
from multiprocessing.reduction import DupFd
from typing import IO, Any

import torch
from torch import Tensor

from job.data import Split


def shared_file() -> IO[bytes]:
    """A file without a name, which is gone with its last user: in memory where the system can, else on disk.

    Not /dev/shm: a container has 64 MB there unless told otherwise, and one write beyond them kills the process.
    """
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("images"), "w+b")
    return tempfile.TemporaryFile()


@dataclass(frozen=True)
class Place:
    """Where a tensor lies in the shared file."""

    start: int
    shape: tuple[int, ...]
    dtype: torch.dtype

    def read(self, memory: mmap.mmap) -> Tensor:
        count = int(torch.Size(self.shape).numel())
        return torch.frombuffer(memory, dtype=self.dtype, offset=self.start, count=count).view(self.shape)


def lay_out(train: Split, validation: Split, file: IO[bytes]) -> tuple[Split, list[Place]]:
    """Writes both splits into `file`. Returns an empty split, which stands for them in the pickle, and the places."""
    places = []
    for tensor in (train.images, train.labels, validation.images, validation.labels):
        start = -(-file.tell() // 64) * 64  # aligned as torch aligns its own tensors
        file.seek(start)
        file.write(tensor.cpu().contiguous().numpy().data)
        places.append(Place(start, tuple(tensor.shape), tensor.dtype))
    file.flush()
    return Split(torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int64)), places


@dataclass(frozen=True)
class SharedImages:
    """The splits in a shared file. Pickled while a process is being started, it hands the open file over to it."""

    descriptor: int
    places: list[Place]

    def __reduce__(self) -> tuple[Any, ...]:
        return reopened, (DupFd(self.descriptor), self.places)

    def splits(self) -> tuple[Split, Split]:
        """Train and validation, as views of the one copy that all processes share."""
        memory = mmap.mmap(self.descriptor, 0)
        images, labels, validation_images, validation_labels = (place.read(memory) for place in self.places)
        return Split(images, labels), Split(validation_images, validation_labels)


def reopened(handle: Any, places: list[Place]) -> SharedImages:
    return SharedImages(handle.detach(), places)
