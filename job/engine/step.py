"""One step of training on a batch of uint8 images."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from job.device import Compute
from job.device.precision import full
from job.engine.augmentation import Batch, augmented, blended
from job.engine.learner import Learner

# Mean and standard deviation of each colour after scaling to [0, 1]; the values commonly used for CIFAR-10.
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2023, 0.1994, 0.2010)


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 `[batch, 32, 32, 3]` to `dtype` `[batch, 3, 32, 32]`, mean 0 and variance 1, channels-last in memory."""
    scale, shift = scale_and_shift(images.device, images.shape[1] * images.shape[2], dtype)
    # One row an image: three values at a time would leave vector instructions nothing to do.
    flat = images.flatten(1).to(dtype).mul_(scale).add_(shift)  # [batch, 32 * 32 * 3]
    return flat.view(images.shape).permute(0, 3, 1, 2)


def prepare(images: Tensor, compute: Compute) -> Tensor:
    """uint8 `[batch, 32, 32, 3]` to what the model takes: normalised, in `compute`'s dtype and layout."""
    return compute.lay_out(normalise(images, compute.param_dtype))


@lru_cache
def scale_and_shift(device: torch.device, pixels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """`pixel * scale + shift` normalises; `[pixels * 3]` each, copied to the device once."""
    scale = torch.tensor([1 / (255 * std) for std in STD] * pixels, device=device, dtype=dtype)
    shift = torch.tensor(
        [-mean / std for mean, std in zip(MEAN, STD, strict=True)] * pixels, device=device, dtype=dtype
    )
    return scale, shift


def mean_loss(logits: Tensor, labels: Tensor, class_weights: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy of a batch, `[batch, classes]` and int64 `[batch]`. An image counts as its class does; the
    mean is over the images, so that a batch of rare ones weighs more. `smoothing` is the share of a label that goes to
    all classes alike (Szegedy et al., 2015, https://arxiv.org/abs/1512.00567, section 7).
    """
    if class_weights is None:
        return cross_entropy(logits, labels, label_smoothing=smoothing)
    each = cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
    return (each * class_weights.index_select(0, labels)).mean()


def batch_loss(logits: Tensor, batch: Batch, class_weights: Tensor | None, smoothing: float) -> Tensor:
    """`mean_loss` of a batch whose images may be mixed: each label counts by its share."""
    if batch.partners is None or batch.share is None:
        return mean_loss(logits, batch.labels, class_weights, smoothing)
    shares = batch.share.to(logits.dtype)
    losses = []
    for labels, share in ((batch.labels, shares), (batch.partners, 1 - shares)):
        counted = share if class_weights is None else share * class_weights.index_select(0, labels)
        losses.append(cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing) * counted)
    return (losses[0] + losses[1]).mean()


def train_step(learner: Learner, images: Tensor, labels: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """One step of the learner's optimizer on a batch (uint8 `[batch, 32, 32, 3]`, int64 `[batch]`); `rows` (int64
    `[batch]`) are the images' numbers in their split.

    Returns the mean loss and the count of right answers before the step, as scalars still on the device.
    """
    how, compute = learner.augmentation, learner.compute
    batch = Batch(images, labels) if how is None else augmented(how, images, labels, rows)
    inputs = normalise(batch.images, compute.param_dtype)
    if batch.blend and batch.share is not None:
        inputs = blended(inputs, batch.share)
    with compute.autocast():
        logits = learner.model(compute.lay_out(inputs))  # [batch, classes]
    loss = batch_loss(full(logits), batch, learner.class_weights, learner.label_smoothing)
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    return loss.detach(), (logits.detach().argmax(dim=1) == batch.judged).sum()
