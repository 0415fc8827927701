"""Images that are normalised once: the bits of normalising each batch, in the precision and the order that a model
takes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from job.data import Split
from job.device import Compute
from job.engine import inputs
from job.engine.inputs import keep
from job.engine.step import normalise

CPU = Compute(torch.device("cpu"), "fp32", "", "")


def split(count: int) -> Split:
    random = torch.Generator().manual_seed(0)
    return Split(torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=random), torch.zeros(count))


class Brighter(nn.Module):
    """Computes with its images before a product takes them, which autocast leaves in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x * 1.001)


class Twice(Brighter):
    """Takes its images for a product and, later, for something else."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x) + x.mean()


def flat() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))


def convolution() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 30 * 30, 10))


@pytest.mark.parametrize(
    ("build", "half", "channels_last"),
    [(flat, True, False), (convolution, True, True), (Brighter, False, True), (Twice, False, True)],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_bits_are_those_of_each_batch(
    precision: str, build: Callable[[], nn.Module], half: bool, channels_last: bool
) -> None:
    compute = replace(CPU, precision=precision)
    dtype = torch.bfloat16 if half and precision == "bf16" else torch.float32
    kept = keep(build().eval(), split(9), compute)
    assert kept.channels_last == channels_last
    rows = torch.tensor([7, 2, 2])
    found = kept.inputs(kept.images.index_select(0, rows))
    assert (found.dtype, found.shape) == (dtype, (3, 3, 32, 32))
    assert found.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    assert torch.equal(found, normalise(split(9).images[rows]).to(dtype))


def test_what_does_not_fit_stays_as_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    given = split(4)
    monkeypatch.setattr(inputs, "free_memory", lambda device: 4 * 4 * 4 * 3072 - 1)
    assert keep(flat().eval(), given, CPU).images is given.images
    monkeypatch.setattr(inputs, "free_memory", lambda device: 4 * 4 * 4 * 3072)
    assert keep(flat().eval(), given, CPU).images.dtype == torch.float32
