"""A drawn set of photographs: shapes on textures, twelve classes, several formats. Nothing is downloaded."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

SHAPES = ("disc", "square", "triangle", "ring", "bar", "star")
TEXTURES = ("waves", "grain")
CLASSES = tuple(f"{shape}-on-{texture}" for shape in SHAPES for texture in TEXTURES)
FORMATS = ("jpg",) * 17 + ("png", "webp", "bmp")  # what a folder of photographs has, about
SIZE = (640, 480)
SHARE = 5  # every fifth is a test image


def texture(kind: str, size: tuple[int, int], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Waves of two directions, or grain as a sensor has it; uint8 `[rows, columns, 3]`."""
    width, height = size
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    base, other = rng.uniform(40, 215, (2, 3)).astype(np.float32)
    if kind == "waves":
        angles, length = rng.uniform(0, math.pi, 2), rng.uniform(20, 80)
        shade = sum(np.sin((columns * math.cos(a) + rows * math.sin(a)) * 2 * math.pi / length) for a in angles) / 4
        mixed = base + (other - base) * (shade[..., None] + 0.5)
    else:
        coarse = rng.integers(0, 255, (height // 8, width // 8), dtype=np.uint8)
        shade = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC), dtype=np.float32) / 255
        mixed = base + (other - base) * shade[..., None]
    noise = rng.integers(-6, 7, (height, width, 1), dtype=np.int16)
    return (mixed + noise).clip(0, 255).astype(np.uint8)


def outline(kind: str, x: float, y: float, radius: float, turn: float) -> list[tuple[float, float]]:
    """The corners of a shape around its middle."""
    corners = {"square": 4, "triangle": 3, "star": 10, "bar": 4}[kind]
    points = []
    for corner in range(corners):
        angle = turn + 2 * math.pi * corner / corners
        if kind == "bar":
            angle = turn + (0.2, math.pi - 0.2, math.pi + 0.2, -0.2)[corner]
        reach = radius * (0.45 if kind == "star" and corner % 2 else 1)
        points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
    return points


def photograph(name: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    """One image of the class: its shape, anywhere, of any size and colour, on its texture."""
    shape, _, ground = name.partition("-on-")
    image = Image.fromarray(texture(ground, size, rng))
    radius = rng.uniform(0.15, 0.35) * min(size)
    x, y = (rng.uniform(radius, side - radius) for side in size)
    colour = tuple(rng.integers(0, 256, 3).tolist())
    draw = ImageDraw.Draw(image)
    box = (x - radius, y - radius, x + radius, y + radius)
    if shape == "disc":
        draw.ellipse(box, fill=colour)
    elif shape == "ring":
        draw.ellipse(box, outline=colour, width=int(radius / 3))
    else:
        draw.polygon(outline(shape, x, y, radius, rng.uniform(0, math.pi)), fill=colour)
    return image.filter(ImageFilter.GaussianBlur(0.7))


def drawn(
    root: Path, count: int, size: tuple[int, int] = SIZE, formats: tuple[str, ...] = FORMATS, seed: int = 0
) -> Path:
    """`count` files below `train/` and `test/`, the classes in turn; the same pixels for the same seed."""
    for number in range(count):
        name = CLASSES[number % len(CLASSES)]
        part = "train" if (number // len(CLASSES)) % SHARE else "test"
        rng = np.random.default_rng((seed, number))
        ending = formats[int(rng.integers(len(formats)))]
        place = root / part / name / f"{number:06}.{ending}"
        place.parent.mkdir(parents=True, exist_ok=True)
        how = {"jpg": {"quality": 90}, "png": {"compress_level": 1}, "webp": {"quality": 85, "method": 0}}
        photograph(name, size, rng).save(place, **how.get(ending, {}))
    return root


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", type=Path)
    parser.add_argument("count", type=int)
    parser.add_argument("--size", type=int, nargs=2, default=SIZE)
    parser.add_argument("--formats", nargs="*", default=FORMATS)
    given = parser.parse_args()
    drawn(given.root, given.count, tuple(given.size), tuple(given.formats))
