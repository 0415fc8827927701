"""Dropout on a CPU with cheap random bits: torch draws its own one by one, which takes half of a transformer's time."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# Each element is decided by 16 random bits, so that the share that is dropped is p rounded to a multiple of 1/65,536.
# The scale is made from that rounded share: what is kept has the mean of the input exactly.
LEVELS = 1 << 16


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


def masked(x: Tensor, mask: Tensor) -> Tensor:
    """`x`, with zeros where `mask` (int16, as `draw_mask` makes it, of the same count) has no bits."""
    mask = mask.view(x.shape)
    if x.dtype in (torch.bfloat16, torch.float16):
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


def dropout(module: nn.Dropout, x: Tensor) -> Tensor:
    """`module`'s forward under autocast, its result in autocast's dtype (so that what follows need not cast);
    without autocast torch's own.
    """
    if not torch.is_autocast_enabled("cpu"):
        return nn.Dropout.forward(module, x)
    x = x.to(torch.get_autocast_dtype("cpu"))
    if not module.training or module.p == 0:
        return x
    result: Tensor = Dropout.apply(x, draw_mask(x.numel(), module.p), scale_of(module.p))
    return result
