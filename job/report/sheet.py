"""Training images as the model saw them, side by side: what augmentation did to them."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

GAP = 2  # pixels between two images
LEAST = 96  # pixels a side in the file; smaller images are shown larger, each pixel as a square


def mosaic(sheet: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 `[rows, columns, side, side, 3]` as one image, white between them."""
    padded = np.pad(sheet, ((0, 0), (0, 0), (0, GAP), (0, GAP), (0, 0)), constant_values=255)
    rows, columns, down, across, colours = padded.shape
    whole: NDArray[np.uint8] = padded.transpose(0, 2, 1, 3, 4).reshape(rows * down, columns * across, colours)
    return whole[:-GAP, :-GAP]


def png(sheet: NDArray[np.uint8]) -> bytes:
    """`augmented.png`."""
    times = max(1, LEAST // sheet.shape[2])
    large = sheet.repeat(times, axis=2).repeat(times, axis=3)
    out = io.BytesIO()
    Image.fromarray(mosaic(large)).save(out, format="png", optimize=times > 1)
    return out.getvalue()
