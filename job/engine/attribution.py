"""What a network looked at: a heat for each pixel of an image, by the method that fits its layers.

- Attention rollout (Abnar and Zuidema 2020, https://arxiv.org/abs/2005.00928), where there are transformer layers.
- LayerCAM (Jiang and others 2021, IEEE Transactions on Image Processing 30), where a convolution's maps still have
  at least LEAST places a side: shallower maps than Grad-CAM's last one, since 32 pixels leave that one 4 places.
- The gradient at the input (Simonyan and others 2013, https://arxiv.org/abs/1312.6034) for all others.

Small functions of its own: captum has neither of the first two. All on the CPU in fp32, so that equal models give equal
heats wherever they were trained.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from job.engine.classifier import Classifier

LEAST = 7  # places a side
BATCH = 12  # images at a time: the maps of many large ones take much memory
ROLLOUT, LAYERCAM, GRADIENT = "rollout", "layercam", "gradient"
Heat = Callable[[Classifier, Tensor, Tensor], Tensor]


def heats(model: Classifier, images: Tensor, targets: Tensor) -> tuple[str, NDArray[np.float32]]:
    """The method's name and heats from 0 to 1, `[images, rows, columns]`, of uint8 `[images, rows, columns, RGB]` for
    the classes int64 `[images]`. The name is empty, and nothing is hot, where no method fits.
    """
    nothing = np.zeros(images.shape[:3], np.float32)
    if not len(images):
        return "", nothing
    name, method = fitting(model)
    try:
        parts = [
            method(model, pixels.float(), classes)
            for pixels, classes in zip(torch.split(images, BATCH), torch.split(targets, BATCH), strict=True)
        ]
    except (RuntimeError, TypeError, ValueError, IndexError):  # a user's own network may be anything
        return "", nothing
    found = torch.cat([spread(part, images.shape[1]) for part in parts]).detach()
    return (name, found.numpy()) if found.isfinite().all() else ("", nothing)


def fitting(model: nn.Module) -> tuple[str, Heat]:
    """The method for this network's layers."""
    layers = list(model.modules())
    if any(isinstance(layer, nn.TransformerEncoderLayer) for layer in layers):
        return ROLLOUT, rollout
    if any(isinstance(layer, nn.Conv2d) for layer in layers):
        return LAYERCAM, layercam
    return GRADIENT, gradient


def spread(heat: Tensor, side: int) -> Tensor:
    """`[images, rows, columns]` of any size to `side` squared, each image's hottest place at 1."""
    large = functional.interpolate(heat[:, None], size=(side, side), mode="bilinear", align_corners=False)[:, 0]
    return large / large.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(large.dtype).tiny)


def chosen(logits: Tensor, targets: Tensor) -> Tensor:
    """The sum of each image's logit for its class, whose gradient is each image's own."""
    return logits.gather(1, targets[:, None]).sum()


def gradient(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """The largest change of the class's logit by any colour of a pixel."""
    images = images.requires_grad_()
    (slope,) = torch.autograd.grad(chosen(model(images), targets), images)
    return slope.abs().amax(dim=3)


def layercam(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """Each map of the last layer with LEAST places weighed, place by place, by its own positive gradient.

    Raises ValueError where no layer has such maps.
    """
    maps: list[Tensor] = []

    def keep(layer: nn.Module, given: object, found: object) -> None:
        if isinstance(found, Tensor) and found.dim() == 4 and min(found.shape[2:]) >= LEAST and found.requires_grad:
            maps.append(found)

    hooks = [layer.register_forward_hook(keep) for layer in model.modules()]
    try:
        logits = model(images.requires_grad_())
    finally:
        for hook in hooks:
            hook.remove()
    if not maps:
        raise ValueError(f"no layer has maps of {LEAST} places a side")
    (slopes,) = torch.autograd.grad(chosen(logits, targets), maps[-1])
    return (slopes.relu() * maps[-1]).sum(dim=1).relu()


@torch.no_grad()
def rollout(model: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """How much of each patch the class token attends to through all layers, half of each layer being what it passes on.

    Without a class token, the mean over all tokens. Says nothing of `targets`: attention is the same for every class.
    """
    weights: list[Tensor] = []

    def look(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, nn.TransformerEncoderLayer)
        tokens = layer.norm1(given[0]) if layer.norm_first else given[0]
        weights.append(layer.self_attn(tokens, tokens, tokens, need_weights=True)[1])  # [batch, tokens, tokens]

    layers = [layer for layer in model.modules() if isinstance(layer, nn.TransformerEncoderLayer)]
    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    flat = patches(rolled(weights))
    return flat - flat.amin(dim=(1, 2), keepdim=True)  # every patch has some: what is more than the least shows


def rolled(weights: list[Tensor]) -> Tensor:
    """The product of the layers' attention `[batch, tokens, tokens]`, half of each the identity; rows add up to 1."""
    own = torch.eye(weights[0].shape[-1])
    through = own.expand_as(weights[0])
    for each in weights:
        through = (0.5 * each + 0.5 * own) @ through
    return through


def patches(through: Tensor) -> Tensor:
    """`[batch, tokens, tokens]` to `[batch, rows, columns]` of the patches. Raises ValueError where it is no square."""
    tokens = through.shape[-1]
    side = int(tokens**0.5)
    if side**2 == tokens:
        flat = through.mean(dim=1)
    elif side**2 + 1 == tokens:
        flat = through[:, 0, 1:]
    else:
        raise ValueError(f"{tokens} tokens are no square of patches, nor one and a class token")
    return flat.reshape(-1, side, side)
