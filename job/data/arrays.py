"""What a data source hands over, before it becomes tensors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Arrays:
    """Images uint8 `[count, 32, 32, 3]` (RGB), labels int64 `[count]` that index `classes`; `origin`: their place."""

    origin: str
    classes: tuple[str, ...]
    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]
