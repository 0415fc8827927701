"""Dropout on a CPU with cheap random bits: torch draws its own one by one, which takes half of a transformer's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Each element is decided by 16 random bits, so that the share that is dropped is p rounded to a multiple of 1/65,536.
# The scale is made from that rounded share: what is kept has the mean of the input exactly.
LEVELS = 1 << 16
HALF = (torch.bfloat16, torch.float16)


def levels_dropped(p: float) -> int:
    """How many of the 65,536 values of a draw drop their element. p = 0.1 drops 6,554: 0.100006."""
    return round(p * LEVELS)


def scale_of(p: float) -> float:
    """What the kept elements are multiplied with, so that the mean stays what it was; 0 where none is kept."""
    kept = LEVELS - levels_dropped(p)
    return LEVELS / kept if kept else 0.0


def draw_mask(count: int, p: float) -> Tensor:
    """int16 `[count]`: all bits set where an element is kept, none where it is dropped.

    Seeded by one number from torch's global stream, so that `torch.manual_seed` governs it; the bits are SFC64's
    (Chris Doty-Humphrey's, https://numpy.org/doc/stable/reference/random/bit_generators/sfc64.html).
    """
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words = np.random.SFC64(seed).random_raw((count + 3) // 4)  # 64 bits each: four elements
    draws = torch.from_numpy(words.view(np.int16))[:count]
    # Signed draws lie in -32,768..32,767. 1 and 0 become all bits and none by negation. In place: memory is the cost.
    return draws.ge_(levels_dropped(p) - LEVELS // 2).neg_() if levels_dropped(p) < LEVELS else draws.zero_()


def draw(count: int, p: float, dtype: torch.dtype) -> tuple[Tensor, float]:
    """A mask for `masked` and what is left to multiply by: in half precision the bits and their scale, in others one
    factor an element, 0 or the scale, in `dtype`, and 1. A product is what they do fastest; half precision has no
    vector instructions for it.
    """
    mask, scale = draw_mask(count, p), scale_of(p)
    return (mask, scale) if dtype in HALF else (mask.to(dtype).mul_(-scale), 1.0)


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """`x` under a mask of the same count: zeros where one of bits (int16, as `draw_mask` makes it) has none, or times
    the factors.
    """
    mask = mask.view(x.shape)
    if mask.is_floating_point():
        return x * mask
    if x.dtype in HALF:
        return (x.contiguous().view(torch.int16) & mask).view(x.dtype)
    return torch.where(mask != 0, x, 0)


class Dropout(torch.autograd.Function):
    """`x * mask * scale`, the mask applied by a bitwise and, which is several times as fast as a product."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.scale = scale
        return masked(x, mask).mul_(scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (mask,) = ctx.saved_tensors
        return masked(grads[0], mask).mul_(ctx.scale), None, None


def working_dtype(x: Tensor) -> torch.dtype:
    """What a product of `x` is computed in: autocast's dtype within it, else its own."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype


def dropout(module: nn.Dropout, x: Tensor) -> Tensor:
    """`module`'s forward, its result in `working_dtype` (so that what follows need not cast)."""
    x = x.to(working_dtype(x))
    if not module.training or module.p == 0:
        return x
    mask, scale = draw(x.numel(), module.p, x.dtype)
    result: Tensor = Dropout.apply(x, mask, scale) if x.dtype in HALF else masked(x, mask)
    return result
