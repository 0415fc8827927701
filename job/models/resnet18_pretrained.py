"""ResNet-18 that starts from ImageNet weights. The head is replaced, below 96 pixels the stem as well (`resnet18`)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, ResNet18_Weights, resnet18

from job.models.resnet18 import PARAMETERS as PARAMETERS
from job.models.resnet18 import fitted

ADDRESS: str = ResNet18_Weights.IMAGENET1K_V1.url
REPLACED = ("fc.",)  # the head of a file of weights is not taken: whatever its size, this one gets its own


def expected() -> dict[str, Tensor]:
    """Names and shapes (on the meta device, without memory) of what is taken from a file."""
    with torch.device("meta"):
        state: dict[str, Tensor] = resnet18(weights=None).state_dict()
    return {name: tensor for name, tensor in state.items() if not name.startswith(REPLACED)}


def build(num_classes: int, image_size: int = 32, weights: Mapping[str, Tensor] | None = None) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images to `[batch, num_classes]` logits.

    `weights` has all of `expected()`; without it the start is random, for a trained state_dict to be loaded.
    """
    net: ResNet = resnet18(weights=None)
    if weights is not None:
        own = net.state_dict()
        net.load_state_dict({name: own[name] if name.startswith(REPLACED) else weights[name] for name in own})
    return fitted(net, num_classes, image_size)
