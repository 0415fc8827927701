"""TrivialAugment's operations against torchvision's and numpy's own, image by image."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import functional

from job.engine import trivial
from job.engine.augmentation import augmented, draws, shown
from tests.engine.test_augmentation import how
from tests.engine.test_engine import images

TABLES = trivial.tables(torch.device("cpu"))


def entry(name: str, k: int, sign: int) -> Tensor:
    number = (trivial.OPERATIONS.index(name) * trivial.STRENGTHS + k) * 2 + (sign > 0)
    return torch.tensor([number])


def photos() -> Tensor:
    """Uint8 `[12, 32, 32, 3]`: smooth ones, whose values do not fill the whole range, and noise."""
    generator = torch.Generator().manual_seed(0)
    small = torch.rand(12, 3, 4, 4, generator=generator) * 0.6 + 0.2
    smooth = torch.nn.functional.interpolate(small, size=32, mode="bilinear")
    return (smooth * 255 + 8 * torch.rand(12, 3, 32, 32, generator=generator)).to(torch.uint8).permute(0, 2, 3, 1)


def coloured(name: str, k: int, sign: int, image: Tensor) -> Tensor:
    operation = torch.tensor([trivial.OPERATIONS.index(name)])
    return trivial.coloured(TABLES, image[None].contiguous(), operation, entry(name, k, sign))[0]


COLOURS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "identity": lambda image, strength, sign: image,
    "brightness": lambda image, strength, sign: functional.adjust_brightness(image, 1 + 0.99 * strength * sign),
    "contrast": lambda image, strength, sign: functional.adjust_contrast(image, 1 + 0.99 * strength * sign),
    "color": lambda image, strength, sign: functional.adjust_saturation(image, 1 + 0.99 * strength * sign),
    "posterize": lambda image, strength, sign: functional.posterize(image, 8 - round(6 * strength)),
    "solarize": lambda image, strength, sign: functional.solarize(image, 255 * (1 - strength)),
    "autocontrast": lambda image, strength, sign: functional.autocontrast(image),
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("k", [0, 7, 30])
@pytest.mark.parametrize("sign", [-1, 1])
def test_colours_are_torchvisions(name: str, k: int, sign: int) -> None:
    """Within two of 255: factors here are 256ths, and theirs are floating-point numbers."""
    for image in photos():
        theirs = COLOURS[name](image.permute(2, 0, 1), k / 30, sign).permute(1, 2, 0)
        apart = (coloured(name, k, sign, image).int() - theirs.int()).abs()
        assert int(apart.max()) <= 2


def test_equalize_gives_every_value_its_rank() -> None:
    for image in photos():
        found = coloured("equalize", 0, 1, image).reshape(-1, 3).numpy()
        for colour, values in enumerate(image.reshape(-1, 3).numpy().T):
            below = (values[None] < values[:, None]).sum(1) + (values[None] == values[:, None]).sum(1) / 2
            assert np.abs(found[:, colour] - 255 * below / len(values)).max() < 1.5
        assert found.std() > 65, "an even spread over 256 values has 74"


def moved(
    name: str, k: int, sign: int, side: int = 32
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    row, column, inside = (part[0].numpy() for part in trivial.sources(TABLES, entry(name, k, sign), side, torch.int64))
    return row, column, inside


@pytest.mark.parametrize("side", [32, 40])
def test_geometry(side: int) -> None:
    rows, columns = np.indices((side, side))
    for name in ("identity", "brightness"):
        row, column, inside = moved(name, 30, 1, side)
        assert inside.all()
        assert np.array_equal(row, rows)
        assert np.array_equal(column, columns)
    image = np.arange(side**2).reshape(side, side)
    for sign, turns in ((1, 1), (-1, -1)):
        row, column, inside = moved("rotate", 20, sign, side)  # 135 * 20 / 30 degrees
        assert inside.all()
        assert np.array_equal(image[row, column], np.rot90(image, turns)) or np.array_equal(
            image[row, column], np.rot90(image, -turns)
        )
    far, back = moved("rotate", 20, 1, side), moved("rotate", 20, -1, side)
    assert np.array_equal(image[far[0], far[1]][back[0], back[1]], image)
    row, column, inside = moved("translate_x", 15, 1, side)
    assert np.array_equal(inside, columns + side // 2 < side)
    assert np.array_equal(column[inside], (columns + side // 2)[inside])
    assert np.array_equal(row, rows)
    assert not moved("translate_y", 30, -1, side)[2].any(), "a whole side away"
    row, column, inside = moved("shear_x", 30, 1, side)
    expected = np.floor(columns + 0.99 * (rows - (side - 1) / 2) + 0.5)
    assert (column == expected)[inside].mean() > 0.97
    assert np.array_equal(row, rows)


def test_each_image_gets_the_operation_that_it_drew() -> None:
    """Of a batch: all operations occur, and each image is what that one makes of it, grey where nothing comes from."""
    pixels, rows = photos().repeat(20, 1, 1, 1), torch.arange(1000, 1240)
    batch = augmented(how("trivial"), pixels, torch.zeros_like(rows), rows)
    operations, entries = trivial.chosen(draws(how("trivial").key, rows)[:, 8:11])
    assert set(operations.tolist()) == set(range(len(trivial.OPERATIONS)))
    assert len(set(entries.tolist())) > 150
    for number, (image, operation, which) in enumerate(zip(pixels, operations, entries, strict=True)):
        row, column, inside = (part[0] for part in trivial.sources(TABLES, which[None], 32, torch.int64))
        grey = torch.tensor([125, 123, 114], dtype=torch.uint8)
        expected = torch.where(inside[:, :, None], image[row, column], grey)
        expected = trivial.coloured(TABLES, expected[None], operation[None], which[None])[0]
        assert torch.equal(batch.images[number], expected), trivial.OPERATIONS[operation]


def test_it_goes_with_the_others_in_any_company() -> None:
    parts, split = ("crop", "flip", "trivial", "cutout"), images(50)
    rows = torch.arange(50)
    whole, some = shown(how(*parts), split.images, rows), rows[7:20].flip(0)
    assert torch.equal(shown(how(*parts), split.images[some], some), whole[some])
    plain = shown(how("crop", "flip", "cutout"), split.images, rows)
    untouched = [k for k in range(50) if torch.equal(whole[k], plain[k])]
    operations = trivial.chosen(draws(how("trivial").key, rows)[:, 8:11])[0]
    assert {k for k in range(50) if trivial.OPERATIONS[operations[k]] == "identity"} <= set(untouched)
    assert len(untouched) < 20
