"""ResNet-18 that starts from ImageNet weights. The head is replaced, below 96 pixels the stem as well (`resnet18`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet18_Weights, resnet18

from job.models.resnet18 import LARGE, fitted
from job.models.resnet18 import PARAMETERS as PARAMETERS

STRONG = {
    "optimizer": "sgd-nesterov",
    "rates": (0.003, 0.1),
    "weight_decay": 5e-4,
    "epochs": 30,
    "label_smoothing": 0.1,
    "augmentation": ("crop", "flip", "cutout"),
}

ADDRESS: str = ResNet18_Weights.IMAGENET1K_V1.url
REPLACED = ("fc.",)  # the head of a file of weights is not taken: whatever its size, this one gets its own


def expected() -> dict[str, Tensor]:
    """Names and shapes (on the meta device, without memory) of what is taken from a file."""
    with torch.device("meta"):
        state: dict[str, Tensor] = resnet18(weights=None).state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith(REPLACED)}


def centre(kernel: Tensor) -> Tensor:
    """The middle 3x3 of `[out, in, 7, 7]`, scaled so that each output channel keeps the norm of its kernel: of white
    noise it gives activations of the same size (variance is the sum of squares: He et al., 2015,
    https://arxiv.org/abs/1502.01852, section 2.2).
    """
    middle = kernel[:, :, 2:5, 2:5]
    size = torch.linalg.vector_norm(middle, dim=(1, 2, 3), keepdim=True)
    scaled: Tensor = middle * (torch.linalg.vector_norm(kernel, dim=(1, 2, 3), keepdim=True) / size.clamp_min(1e-12))
    return scaled


def build(
    num_classes: int, image_size: int = 32, weights: Mapping[str, Tensor] | None = None, strong: bool = False
) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images to `[batch, num_classes]` logits.

    `weights` has all of `expected()`; without it the start is random, for a trained state_dict to be loaded. `strong`:
    a 3x3 stem starts as the centre of the file's 7x7 kernel.
    """
    net: ResNet = resnet18(weights=None)
    if weights is not None:
        own = net.state_dict()
        net.load_state_dict({name: own[name] if name.startswith(REPLACED) else weights[name] for name in own})
    model = fitted(net, num_classes, image_size)
    if strong and weights is not None and image_size < LARGE:
        net.conv1.weight.data.copy_(centre(weights["conv1.weight"]))
    return model
