"""A data set as the model takes it, normalised once and kept on a GPU, so that a recorded step begins with the model.

The bits are those of normalising each batch: the same operations, element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from job.data import Split
from job.device import CHANNELS_LAST, Compute
from job.device.memory import free_memory
from job.device.precision import DTYPES, HALVES
from job.engine.step import normalise

MOST_MEMORY = 0.25  # of what the device has free: everything else needs room as well
CHUNK = 4096  # images that are normalised at a time


@dataclass(frozen=True)
class Kept:
    """All images of a split: normalised, `[count, 3, side, side]` or, channels-last, `[count, side, side, 3]`; or the
    pixels as they are, uint8 `[count, side, side, 3]`.
    """

    images: Tensor
    channels_last: bool = False

    def inputs(self, batch: Tensor) -> Tensor:
        """Some of the images as a step takes them: `[batch, 3, side, side]`, or pixels."""
        return batch.permute(0, 3, 1, 2) if self.channels_last else batch


class Uses(TorchFunctionMode):
    """What a model does with its images before anything else is made of them."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images, self.found = [images], set[str]()

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if any(one is image for one in (*args, *(kwargs or {}).values()) for image in self.images):
            name = getattr(function, "__name__", "")
            if name == "flatten":
                self.images.append(result)
            if isinstance(result, Tensor):
                self.found.add(name)
        return result


def keep(run: Callable[[Tensor], Tensor], split: Split, compute: Compute) -> Kept:
    """The split's images normalised where they fit into the device's memory, else its pixels. `run` is the model, in
    evaluation mode. In half precision where products alone take them, which autocast would give the same ones.
    """
    half, size = compute.precision in HALVES, split.images.numel()
    if size * (2 if half else compute.param_dtype.itemsize) > MOST_MEMORY * free_memory(compute.device):
        return Kept(split.images)
    first = normalise(split.images[:1], compute.param_dtype)
    with torch.no_grad(), compute.autocast(), Uses(first) as uses:
        run(first)
    half = half and uses.found <= {"flatten", "linear", "conv2d"}
    channels_last = compute.layout == CHANNELS_LAST and not uses.found <= {"flatten", "linear"}
    count, rows, columns, colours = split.images.shape
    shape = (count, rows, columns, colours) if channels_last else (count, colours, rows, columns)
    kept = torch.empty(shape, dtype=DTYPES[compute.precision] if half else compute.param_dtype, device=compute.device)
    for start in range(0, count, CHUNK):
        images = normalise(split.images[start : start + CHUNK], compute.param_dtype)
        kept[start : start + CHUNK] = images.permute(0, 2, 3, 1) if channels_last else images
    return Kept(kept, channels_last)
