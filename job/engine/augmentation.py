"""Random changes of training images, on the device and on whole batches.

Every draw is a function of (seed, part, epoch, image) by an integer hash, so that it is the same on any device, in a
replayed step and after a kill; nothing draws from torch's own streams. Crop, flip, cutout and cutmix move pixels
without computing with them: each pixel of the result is looked up in the batch, all parts at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from job.engine import trivial
from job.models import Recipe

GREY = (125, 123, 114)  # CIFAR-10's mean colour, which normalisation brings to zero
LEVELS = 1024  # of a share that is looked up in a table: sines and roots may differ in their last bit between devices
Number = TypeVar("Number", int, Tensor)
WORD = 0xFFFFFFFF  # 32 bits, held in int64: no product below overflows it
# Which draw of an image is whose; a part that a recipe lacks leaves the others' draws as they are.
SHIFT, FLIP, CUTOUT, SHARE, BOX, TRIVIAL, DRAWS = slice(0, 2), 2, slice(3, 5), 5, slice(6, 8), slice(8, 11), 11


@dataclass(frozen=True)
class Augmentation:
    """The parts of a recipe and what they need on the device, which stays where it is in memory for CUDA graphs.

    `key` int64 `[DRAWS]`: a word of the epoch's for each draw, or `[batches, DRAWS]` where what is augmented is
    several batches of one size, one after the other, each in an epoch of its own; `shares` float32 `[LEVELS]`: the
    quantiles of the share that an image keeps in mixup (arcsine, which is Beta(1/2, 1/2), the larger part being its
    own), or for cutmix of the part of a side that the box takes; `grey` uint8 `[1, 3]`; `trivial`: what
    TrivialAugment does, where asked for.
    """

    parts: tuple[str, ...]
    key: Tensor
    shares: Tensor
    grey: Tensor
    trivial: trivial.Tables | None = None

    def begin(self, *seeds: int) -> None:
        """To an epoch with this seed (63 bits), or to one with its own for each batch."""
        words = [[mixed((n * 0x61C88647 + seed) & WORD) ^ seed >> 32 for n in range(DRAWS)] for seed in seeds]
        self.key.copy_(torch.tensor([[mixed(word) for word in each] for each in words]).view(self.key.shape))

    @property
    def batches(self) -> int:
        return 1 if self.key.dim() == 1 else len(self.key)


@dataclass(frozen=True)
class Batch:
    """What a step trains on: images uint8 `[batch, side, side, 3]`, labels int64 `[batch]`. Where images were mixed,
    `partners` are the labels of the others, and `share` float32 `[batch]` is what counts of each image's own; `blend`
    says that the images themselves are still to be mixed so, each with the one before it. It may be several `batches`
    of one size, one after the other, which do not mix.
    """

    images: Tensor
    labels: Tensor
    partners: Tensor | None = None
    share: Tensor | None = None
    blend: bool = False
    batches: int = 1

    @property
    def judged(self) -> Tensor:
        """The label that makes an answer a right one: that of the larger part."""
        if self.partners is None or self.share is None:
            return self.labels
        return torch.where(self.share >= 0.5, self.labels, self.partners)


def augmentation(recipe: Recipe, device: torch.device, batches: int | None = None) -> Augmentation | None:
    """What the recipe asks for, on the device; None where it leaves images as they are. `batches`: see the key."""
    if not recipe.augmentation:
        return None
    middles = [(number + 0.5) / LEVELS for number in range(LEVELS)]
    if "cutmix" in recipe.augmentation:
        shares = [math.sqrt(middle) for middle in middles]
    else:
        shares = [max(math.sin(math.pi / 2 * middle) ** 2, math.cos(math.pi / 2 * middle) ** 2) for middle in middles]
    return Augmentation(
        recipe.augmentation,
        torch.zeros(DRAWS if batches is None else (batches, DRAWS), dtype=torch.int64, device=device),
        torch.tensor(shares, dtype=torch.float32, device=device),
        torch.tensor([GREY], dtype=torch.uint8, device=device),
        trivial.tables(device) if "trivial" in recipe.augmentation else None,
    )


def augmented(how: Augmentation, images: Tensor, labels: Tensor, rows: Tensor) -> Batch:
    """A batch, uint8 `[batch, side, side, 3]` and int64 `[batch]`, changed; `rows` int64 `[batch]` are its numbers."""
    count, side, batches = len(rows), images.shape[1], how.batches
    drawn = draws(how.key if batches == 1 else how.key.repeat_interleave(count // batches, 0), rows)
    index = places(how, drawn, side)
    if how.trivial is not None:
        images = trivial.coloured(how.trivial, looked_up(how, images, index), *trivial.chosen(drawn[:, TRIVIAL]))
        index = torch.arange(index.numel(), dtype=index.dtype, device=index.device).view(index.shape)
    if "cutout" in how.parts:
        quarter = torch.full((), side // 4, dtype=index.dtype, device=drawn.device)
        index = index.masked_fill(crossed(boxes(drawn[:, CUTOUT], quarter, side)), count * side**2)
    partners = before(labels, batches) if {"mixup", "cutmix"} & set(how.parts) else None
    share = how.shares.index_select(0, drawn[:, SHARE] * LEVELS >> 32) if partners is not None else None
    if "cutmix" in how.parts and share is not None:
        sides = (share * side + 0.5).to(index.dtype)[:, None, None]  # of the box; its area is uniform
        inside = boxes(drawn[:, BOX], sides, side)
        index = torch.where(crossed(inside), before(index, batches), index)
        share = 1 - inside.sum(2, dtype=torch.int32).prod(1).float() / side**2
    return Batch(looked_up(how, images, index), labels, partners, share, "mixup" in how.parts, batches)


def before(x: Tensor, batches: int) -> Tensor:
    """In each one's place what is one before it in its batch; the last in that of the first."""
    return x.view(batches, -1, *x.shape[1:]).roll(1, 1).view(x.shape)


def looked_up(how: Augmentation, images: Tensor, index: Tensor) -> Tensor:
    """The pixels of a batch, uint8 `[batch, side, side, 3]`, that `index` `[batch, side, side]` names."""
    pixels = torch.cat([images.reshape(-1, 3), how.grey])
    return pixels.index_select(0, index.flatten()).view(images.shape)


def places(how: Augmentation, drawn: Tensor, side: int) -> Tensor:
    """Which pixel of the batch each one of the result is, `[batch, side, side]`; one past the last is grey.

    Crop (Krizhevsky et al., 2012, section 4.1) with what is beyond the border mirrored, flip, and TrivialAugment's
    geometry. Cutout (DeVries and Taylor, 2017, https://arxiv.org/abs/1708.04552) and cutmix come after its colours.
    """
    count = len(drawn)
    dtype = torch.int32 if count * side**2 < 2**31 - 1 else torch.int64
    at = torch.arange(side, dtype=dtype, device=drawn.device)
    row_column = at.expand(count, 2, side)
    if {"crop", "shift"} & set(how.parts):
        padding = side // (8 if "crop" in how.parts else 16)
        shift = below(drawn[:, SHIFT], 2 * padding + 1).to(dtype)[:, :, None] - padding
        row_column = (side - 1) - ((side - 1) - (at + shift).abs()).abs()
    row, column = row_column.unbind(1)  # [batch, side] each
    if "flip" in how.parts:
        turned = below(drawn[:, FLIP], 2).to(dtype)[:, None]
        column = column + turned * (side - 1 - 2 * column)
    first = torch.arange(count, dtype=dtype, device=drawn.device)[:, None] * side
    if how.trivial is None:
        return ((first + row) * side)[:, :, None] + column[:, None, :]
    entry = trivial.chosen(drawn[:, TRIVIAL])[1]
    down, across, inside = trivial.sources(how.trivial, entry, side, torch.int64)
    row, column = (line.gather(1, to.flatten(1)).view(to.shape) for line, to in ((row, down), (column, across)))
    return torch.where(inside, (first[:, :, None] + row) * side + column, count * side**2)


def boxes(drawn: Tensor, sides: Tensor, side: int) -> Tensor:
    """Which rows and columns lie within a box around a drawn pixel, cut off at the border: bool `[batch, 2, side]`."""
    at = torch.arange(side, dtype=sides.dtype, device=drawn.device)
    first = below(drawn, side).to(sides.dtype)[:, :, None] - sides // 2
    return (at >= first) & (at < first + sides)


def crossed(inside: Tensor) -> Tensor:
    """`[batch, 2, side]`, rows and columns, to `[batch, side, side]`."""
    return inside[:, 0, :, None] & inside[:, 1, None, :]


def blended(images: Tensor, share: Tensor, batches: int = 1) -> Tensor:
    """Mixup (Zhang et al., 2017, https://arxiv.org/abs/1710.09412) of each image with the one before it.

    Normalised images `[batch, 3, rows, columns]`, channels-last in memory as they stay.
    """
    rows = images.permute(0, 2, 3, 1)
    own = share.to(images.dtype)[:, None, None, None]
    return torch.lerp(before(rows, batches), rows, own).permute(0, 3, 1, 2)


def draws(key: Tensor, rows: Tensor) -> Tensor:
    """`DRAWS` numbers of 32 bits for each image, int64 `[batch, DRAWS]`; the key is one for all or one for each."""
    return mixed(rows[:, None] ^ key)


def mixed(x: Number) -> Number:
    """A permutation of the 32-bit numbers whose every output bit depends on every input bit: `[16 21f0aaad 15 735a2d97
    15]` of https://github.com/skeeto/hash-prospector; both factors are below 2**31, so that int64 holds the products.
    """
    x = ((x ^ (x >> 16)) * 0x21F0AAAD) & WORD
    x = ((x ^ (x >> 15)) * 0x735A2D97) & WORD
    return x ^ (x >> 15)


def below(drawn: Tensor, limit: int) -> Tensor:
    """Numbers of 32 bits to whole ones from 0 to `limit` - 1, all as likely but for 1 in 2**32 / limit."""
    return drawn * limit >> 32


def shown(how: Augmentation, images: Tensor, rows: Tensor) -> Tensor:
    """The images of a batch as the model sees them, uint8 alike: mixup rounded to whole numbers."""
    batch = augmented(how, images, torch.zeros_like(rows), rows)
    if not batch.blend or batch.share is None:
        return batch.images
    return blended(batch.images.permute(0, 3, 1, 2).double(), batch.share).permute(0, 2, 3, 1).round().to(torch.uint8)
