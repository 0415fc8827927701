"""How far apart replayed and eager steps may be: what they leave behind, and the bounds for it (see `proof`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TIMES_NOISE = 4


@dataclass(frozen=True)
class Bound:
    """How far apart replayed and eager steps may be: `TIMES_NOISE` times what rounding does, within these limits.

    Dropout masks that are the same in every step, the smallest fault that a replay is known for, move losses by 0.01
    to 0.05 and Adam's means by 0.4 to 0.9; other orders of summation in bf16 by 0.0004 and by 0.1.
    """

    least: float
    most: float

    def of(self, noise: float) -> float:
        return min(max(TIMES_NOISE * noise, self.least), self.most)


BOUNDS = {
    "losses": Bound(1e-3, 5e-3),
    "right answers": Bound(0.02, 0.1),
    "buffers": Bound(0.01, 0.2),
    "means of the gradients": Bound(0.05, 0.3),
    "weights": Bound(0.05, 0.4),
    "counts": Bound(0.0, 0.0),
}


@dataclass(frozen=True)
class Trace:
    """What the steps leave behind, float64. `values` has the keys of `BOUNDS`; each tensor is compared by itself.

    `losses`: the mean loss of each step, times the root of its images: small batches have more noise; of steps that
    are replayed as one the sum, and zeros; and that of an evaluation afterwards. `right answers`: of each pass, and of
    the evaluation, a share of its images. `buffers` and `weights`: how far they have come. `counts`: Adam's steps,
    whatever else is an integer, and fp16's scale.
    """

    values: dict[str, list[Tensor]]


def disagreement(found: Trace, expected: Trace, disturbed: Trace) -> str:
    """What differs by more than its bound, with both; an empty text where nothing does."""
    for name, bound in BOUNDS.items():
        apart, noise = (distance(one.values[name], expected.values[name]) for one in (found, disturbed))
        if not apart <= bound.of(noise):  # NaN is no agreement
            return f"{name} {apart:.2g} apart, where rounding makes {noise:.2g}"
    return ""


def distance(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest difference of two tensors' norms (Frobenius), as a share of the expected one's; NaN if any is."""
    shares = [torch.zeros((), dtype=torch.float64)]
    for one, other in zip(found, expected, strict=True):
        difference = (one - other).norm().cpu()
        shares.append(torch.where(difference == 0, difference, difference / other.norm().cpu()))
    return float(torch.stack(shares).max())
