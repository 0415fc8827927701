"""Ten classes of 32x32 images drawn from a seed: no download, and hard enough to tell models apart.

A class is the orientation of a small grating (a Gabor patch). Its place, phase, wavelength, colour and contrast are
drawn anew for every image, so that no single pixel says anything about the class: a convolutional network finds the
orientation wherever it stands, a multi-layer perceptron has to learn every place by itself. Orientations scatter around
their class's own, so that neighbouring classes overlap and no model reaches 100 %.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from job.data.arrays import Arrays
from job.errors import Fault
from job.seeds import seed_for

CLASSES = 10
TRAIN_COUNT, TEST_COUNT = 50_000, 10_000
SCATTER_DEGREES = 6.0  # standard deviation; neighbouring classes are 18 degrees apart
NOISE = 0.1  # standard deviation, with pixel values from 0 to 1
CHUNK = 2_000  # images drawn at a time: bounds the memory


def draw(seed: int, limit: int | None) -> Arrays:
    """50,000 training and 10,000 test images, or `limit` and a fifth of it; the same bytes for the same arguments.

    Raises Fault where `limit` leaves less than one image a class.
    """
    count = TRAIN_COUNT if limit is None else min(limit, TRAIN_COUNT)
    if count < CLASSES:
        raise Fault(
            f"DATA_LIMIT={limit} leaves less than one image for each of the {CLASSES} classes.",
            f"Give {CLASSES} or more.",
        )
    test_count = max(CLASSES, round(count * TEST_COUNT / TRAIN_COUNT))
    train_images, train_labels = split(count, np.random.default_rng(seed_for(seed, "synthetic", "train")))
    test_images, test_labels = split(test_count, np.random.default_rng(seed_for(seed, "synthetic", "test")))
    return Arrays(
        origin=f"drawn from SEED={seed}",
        classes=tuple(f"{round(180 * label / CLASSES)} degrees" for label in range(CLASSES)),
        train_images=train_images,
        train_labels=train_labels,
        test_images=test_images,
        test_labels=test_labels,
    )


def split(count: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images uint8 `[count, 32, 32, 3]` and labels int64 `[count]`, the classes as equal in size as `count` allows."""
    labels = rng.permutation(np.arange(count, dtype=np.int64) % CLASSES)
    images = np.concatenate([gratings(labels[start : start + CHUNK], rng) for start in range(0, count, CHUNK)])
    return images, labels


def gratings(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    """One Gabor patch an image: uint8 `[len(labels), 32, 32, 3]`."""
    count = len(labels)

    def uniform(low: float, high: float, *shape: int) -> NDArray[np.float32]:
        return rng.uniform(low, high, (count, *shape)).astype(np.float32)

    angle = np.pi * labels / CLASSES + rng.normal(0, np.radians(SCATTER_DEGREES), count)
    along_x, along_y = (f(angle).astype(np.float32)[:, None, None] for f in (np.cos, np.sin))
    wavelength, phase = uniform(4, 8, 1, 1), uniform(0, 2 * np.pi, 1, 1)
    centre_x, centre_y = uniform(9, 23, 1, 1), uniform(9, 23, 1, 1)
    radius = uniform(4.5, 7, 1, 1)
    colour = uniform(-1, 1, 1, 1, 3)
    colour /= np.abs(colour).max(axis=-1, keepdims=True)
    contrast = uniform(0.2, 0.45, 1, 1, 1)
    background = uniform(0.35, 0.65, 1, 1, 3)

    rows, columns = np.mgrid[0:32, 0:32].astype(np.float32)
    x, y = columns - centre_x, rows - centre_y  # [count, 32, 32]
    wave = np.sin(2 * np.pi * (along_x * x + along_y * y) / wavelength + phase)
    patch = wave * np.exp(-(x**2 + y**2) / (2 * radius**2))
    noise = rng.standard_normal((count, 32, 32, 1), dtype=np.float32) * np.float32(NOISE)
    pixels = background + contrast * colour * patch[..., None] + noise  # [count, 32, 32, 3]
    as_bytes: NDArray[np.uint8] = (pixels.clip(0, 1) * 255).round().astype(np.uint8)
    return as_bytes
