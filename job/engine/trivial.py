"""TrivialAugment (Müller and Hutter, 2021, https://arxiv.org/abs/2103.10158, the wide space) in whole numbers: each
image gets one operation at one of 31 strengths. Without sharpness, the only one that looks at a pixel's neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

OPERATIONS = (
    *("identity", "shear_x", "shear_y", "translate_x", "translate_y", "rotate"),
    *("brightness", "contrast", "color", "posterize", "solarize", "autocontrast", "equalize"),
)
STRENGTHS = 31
ONE = 4096  # of a coefficient of geometry, on coordinates that are doubled and count from the middle
WHOLE = 256  # of a factor by which two colours are blended
LUMA = (19595, 38470, 7471)  # of red, green and blue in grey, in 65,536ths (ITU-R BT.601)


@dataclass(frozen=True)
class Tables:
    """What each operation does, by its number, strength and sign: `[len(OPERATIONS) * STRENGTHS * 2, ...]`.

    `places` int32 `[..., 6]`: where a pixel comes from, `a, b, c, d` of the coordinates and a shift in sides; `curves`
    uint8 `[..., 256]`: what becomes of a value; `blends` int32 `[...]`: for contrast and colour.
    """

    places: Tensor
    curves: Tensor
    blends: Tensor


def tables(device: torch.device) -> Tables:
    entries = [(name, k / (STRENGTHS - 1), sign) for name in OPERATIONS for k in range(STRENGTHS) for sign in (-1, 1)]
    return Tables(
        torch.tensor([place(*entry) for entry in entries], dtype=torch.int32, device=device),
        torch.tensor([curve(*entry) for entry in entries], dtype=torch.uint8, device=device),
        torch.tensor([blend(strength, sign) for _, strength, sign in entries], dtype=torch.int32, device=device),
    )


def blend(strength: float, sign: int) -> int:
    return WHOLE + sign * round(0.99 * WHOLE * strength)


def place(name: str, strength: float, sign: int) -> list[int]:
    a, b, c, d, right, down = 1.0, 0.0, 0.0, 1.0, 0.0, 0.0
    if name == "shear_x":
        b = 0.99 * strength * sign
    elif name == "shear_y":
        c = 0.99 * strength * sign
    elif name == "translate_x":
        right = strength * sign
    elif name == "translate_y":
        down = strength * sign
    elif name == "rotate":
        angle = math.radians(135 * strength * sign)
        a, b, c, d = math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return [round(ONE * number) for number in (a, b, c, d, right, down)]


def curve(name: str, strength: float, sign: int) -> list[int]:
    if name == "brightness":
        return [min(255, value * blend(strength, sign) // WHOLE) for value in range(256)]
    if name == "posterize":
        return [value & 256 - 2 ** round(6 * strength) for value in range(256)]
    if name == "solarize":
        return [255 - value if value >= 255 * (1 - strength) else value for value in range(256)]
    return list(range(256))


def chosen(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Operation and row of the tables for each image, int64 `[batch]`, from three draws of 32 bits, `[batch, 3]`."""
    operation, strength, sign = (drawn[:, k] * limit >> 32 for k, limit in enumerate((len(OPERATIONS), STRENGTHS, 2)))
    return operation, (operation * STRENGTHS + strength) * 2 + sign


def sources(which: Tables, entry: Tensor, side: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Row and column that each pixel comes from (nearest one), and whether it lies within: `[batch, side, side]`."""
    at = 2 * torch.arange(side, dtype=torch.int32, device=entry.device) - (side - 1)
    a, b, c, d, right, down = which.places.index_select(0, entry)[:, :, None, None].unbind(1)
    half = side * ONE  # from the middle back to the corner, and to the nearest
    column = (a * at + b * at[:, None] + right * (2 * side) + half) >> 13
    row = (c * at + d * at[:, None] + down * (2 * side) + half) >> 13
    inside = (row >= 0) & (row < side) & (column >= 0) & (column < side)
    return row.clamp(0, side - 1).to(dtype), column.clamp(0, side - 1).to(dtype), inside


def coloured(which: Tables, images: Tensor, operation: Tensor, entry: Tensor) -> Tensor:
    """The operations on colours, uint8 `[batch, side, side, 3]`."""
    count, pixels = len(images), images.view(len(images), -1, 3)
    factor = which.blends.index_select(0, entry)
    red, green, blue = pixels.int().unbind(2)
    grey = (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2] + 32768) >> 16  # [batch, pixels]
    curves = which.curves.index_select(0, entry)[:, None].expand(count, 3, 256)
    for name, made in (
        ("contrast", contrast(grey, factor)[:, None].expand(count, 3, 256)),
        ("autocontrast", autocontrast(pixels)),
        ("equalize", equalize(pixels)),
    ):
        curves = torch.where((operation == OPERATIONS.index(name))[:, None, None], made, curves)
    # One table an image, its three colours side by side: `value * 3 + colour` is looked up.
    colours = torch.arange(3, device=images.device)
    looked_up = curves.permute(0, 2, 1).reshape(count, -1).gather(1, (pixels.long() * 3 + colours).view(count, -1))
    changed = looked_up.view(count, -1, 3)
    saturated = blended(grey[:, :, None], pixels.int(), factor[:, None, None])
    is_colour = (operation == OPERATIONS.index("color"))[:, None, None]
    return torch.where(is_colour, saturated, changed).view(images.shape)


def blended(base: Tensor, value: Tensor, factor: Tensor) -> Tensor:
    """`value` moved away from `base` or towards it, int32 to uint8."""
    return ((base * (WHOLE - factor) + value * factor) >> 8).clamp(0, 255).to(torch.uint8)


def contrast(grey: Tensor, factor: Tensor) -> Tensor:
    """Away from the image's mean grey, `[batch, 256]`."""
    mean = (grey.sum(1, dtype=torch.int64) // grey.shape[1]).int()[:, None]
    return blended(mean, torch.arange(256, dtype=torch.int32, device=grey.device), factor[:, None])


def autocontrast(pixels: Tensor) -> Tensor:
    """Each colour stretched from its least to its largest value, `[batch, 3, 256]`; one with a single value stays."""
    least, most = (end.int()[:, :, None] for end in (pixels.amin(1), pixels.amax(1)))
    values = torch.arange(256, dtype=torch.int32, device=pixels.device)
    stretched = (values - least) * 255 // (most - least).clamp_min(1)
    return torch.where(most > least, stretched.clamp(0, 255), values).to(torch.uint8)


def equalize(pixels: Tensor) -> Tensor:
    """Each colour by its rank among the image's pixels, `[batch, 3, 256]`."""
    count, each = pixels.shape[:2]
    one = torch.ones(1, dtype=torch.int32, device=pixels.device).expand(count, 3, each)
    bins = torch.zeros(count, 3, 256, dtype=torch.int32, device=pixels.device)
    bins = bins.scatter_add(2, pixels.permute(0, 2, 1).long(), one)
    ranks = bins.cumsum(2, dtype=torch.int32) - bins // 2
    return (ranks * 255 // each).clamp(0, 255).to(torch.uint8)
