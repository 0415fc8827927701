"""How tests stay clear of rounding, which differs from chip to chip: trainings are compared in float64, and everything
holds from start weights that lie a rounding apart as well (`make test-cpus`).
"""

from __future__ import annotations

import os

import torch
from torch import nn

from job.device import Compute

FP64 = Compute(torch.device("cpu"), "fp64", "", "")
CLOSE = 1e-9  # relative, of numbers in float64: a million times its rounding, a hundredth of float32's
DISTURBANCE = 1e-7  # one part in ten million: what float32 rounds off


def draw() -> int:
    """Which disturbance of the start weights is asked for, from 1 on; 0 for none."""
    return int(os.environ.get("TEST_DISTURBANCE") or 0)


@torch.no_grad()
def disturbed(model: nn.Module) -> nn.Module:
    """The model, every weight moved up or down by `DISTURBANCE` where that is asked for: the same way every time."""
    if draw():
        generator = torch.Generator().manual_seed(draw())
        for parameter in model.parameters():
            signs = 2.0 * torch.randint(2, parameter.shape, generator=generator) - 1
            parameter.copy_(parameter.double() * (1 + DISTURBANCE * signs))
    return model
