"""What a data source hands over, before it becomes tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Arrays:
    """Images uint8 `[count, 32, 32, 3]` (RGB), labels int64 `[count]` that index `classes`; `origin`: their place.

    `test_names` are the test images' file names; without any, images are told apart by their numbers.
    """

    origin: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
    test_names: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """A name for each test image: its file's, or its number in the test set, from 0."""
        return self.test_names or tuple(map(str, range(len(self.test_labels))))
