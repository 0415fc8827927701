"""Folders of images for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from job.console.progress import Progress

quiet = Progress("off").bar


def picture(place: Path, shade: int, side: int = 32) -> None:
    """An image of one colour; a shade of its own makes a content of its own."""
    place.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (shade % 256, shade // 256, 7)).save(place)


def pictures(root: Path, *names: str) -> Path:
    for shade, name in enumerate(names):
        picture(root / name, shade)
    return root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Two classes with JPEG and PNG, grey and colour, of several sizes."""
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    for part, count in (("train", 4), ("test", 2)):
        for label, name in enumerate(("cats", "dogs")):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                side = (32, 32) if number else (60, 45)
                pixels = rng.integers(0, 100, (*side, 3), dtype=np.uint8) + 150 * label
                image = Image.fromarray(pixels.astype(np.uint8))
                if number == 1:
                    image = image.convert("L")
                image.save(root / part / name / f"{number}.{'jpg' if number % 2 else 'png'}")
    return root
