"""One step of training on a batch of uint8 images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from job.device import Compute
from job.device.precision import full
from job.engine.augmentation import Batch, augmented, blended
from job.engine.learner import Learner

EVALUATION_BATCH = 1000  # images, of up to 90 pixels a side
EVALUATION_PIXELS = 8 * EVALUATION_BATCH * 32**2  # of larger ones: what a model keeps of them grows with their pixels

# Mean and standard deviation of each colour after scaling to [0, 1]; the values commonly used for CIFAR-10.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


def evaluation_batch(side: int) -> int:
    """How many images are judged at once: 1,000, but 163 of 224 pixels a side."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // side**2))


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 `[batch, 32, 32, 3]` to `dtype` `[batch, 3, 32, 32]`, mean 0 and variance 1, channels-last in memory."""
    scale, shift = scale_and_shift(images.device, images.shape[1] * images.shape[2], dtype)
    # One row an image: three values at a time would leave vector instructions nothing to do.
    flat = images.flatten(1).to(dtype).mul_(scale).add_(shift)  # [batch, 32 * 32 * 3]
    return flat.view(images.shape).permute(0, 3, 1, 2)


def prepare(images: Tensor, compute: Compute) -> Tensor:
    """uint8 `[batch, 32, 32, 3]` to what the model takes: normalised, in `compute`'s dtype and layout."""
    return compute.lay_out(normalise(images, compute.param_dtype))


def taken(images: Tensor, compute: Compute) -> Tensor:
    """What the model takes of a batch that is pixels or was prepared before."""
    return images if images.is_floating_point() else prepare(images, compute)


@lru_cache
def scale_and_shift(device: torch.device, pixels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`pixel * scale + shift` normalises; `[pixels * 3]` each, copied to the device once."""
    scale = torch.tensor([1 / (255 * std) for std in STD] * pixels, device=device, dtype=dtype)
    shift = torch.tensor(
        [-mean / std for mean, std in zip(MEAN, STD, strict=True)] * pixels, device=device, dtype=dtype
    )
    return scale, shift


@lru_cache
def one(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The gradient of a loss, which torch would write anew in every step."""
    return torch.ones((), dtype=dtype, device=device)


def inputs_of(batch: Batch, compute: Compute) -> Tensor:
    """What the model takes of an augmented batch, `[batch, 3, side, side]`."""
    inputs = normalise(batch.images, compute.param_dtype)
    if batch.blend and batch.share is not None:
        inputs = blended(inputs, batch.share, batch.batches)
    return compute.lay_out(inputs)


def train_step(learner: Learner, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step of the learner's optimizer on a batch, its labels int64 `[batch]`; `rows` (int64 `[batch]`) are the
    images' numbers in their split. `images` are pixels, uint8 `[batch, 32, 32, 3]`, or what the model takes, `[batch,
    3, 32, 32]`.

    Returns, still on the device, the mean loss, the logits before the step and the labels that make an answer a right
    one.
    """
    how, compute = learner.augmentation, learner.compute
    batch = Batch(images, labels) if how is None else augmented(how, images, labels, rows)
    inputs = batch.images if images.is_floating_point() else inputs_of(batch, compute)
    logits = learner.answer(inputs, learner.weights())  # [batch, classes]
    loss = learner.criterion.mean(full(logits), batch)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward(one(loss.device, loss.dtype))  # type: ignore[no-untyped-call]
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return loss.detach(), logits.detach(), batch.judged
