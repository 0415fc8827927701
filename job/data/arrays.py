"""What a data source hands over, before it becomes tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.device.mapping import Mapping


@dataclass(frozen=True)
class Bad:
    """An image that could not be read, or was damaged and is `used` all the same; `row` among all images."""

    file: str
    reason: str
    row: int
    used: bool

    def told(self) -> dict[str, Any]:
        """As results tell it."""
        return {"file": self.file, "reason": self.reason, "used": self.used}


@dataclass(frozen=True)
class Arrays:
    """Images uint8 `[count, 32, 32, 3]` (RGB), labels int64 `[count]` that index `classes`; `origin`: their place.

    `test_names` are the test images' file names; without any, images are told apart by their numbers. `validation` are
    images and labels of a set of its own for the search, where there is one. `sizes` are the widths and heights of
    the training, validation and test images' files, int32 `[count, 2]`, where these came in any size; `contents` a
    hash of each one's pixels, uint8 `[count, 16]`, where they are known. All images are parts of one `mapping`, where
    there is one.
    """

    origin: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    test_names: tuple[str, ...] = ()
    validation: tuple[NDArray[np.uint8], NDArray[np.int64]] | None = None
    bad: tuple[Bad, ...] = ()
    sizes: tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]] | None = None
    contents: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]] | None = None
    mapping: Mapping | None = None

    def names(self) -> tuple[str, ...]:
        """A name for each test image: its file's, or its number in the test set, from 0."""
        return self.test_names or tuple(map(str, range(len(self.test_labels))))
