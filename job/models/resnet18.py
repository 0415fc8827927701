"""ResNet-18 (He et al., 2015, https://arxiv.org/abs/1512.03385) from a random start, with a stem for 32x32 images.

The ImageNet stem (7x7 stride 2, then max-pool) would leave 8x8 of a 32x32 image; 3x3 stride 1 without the pool keeps
32x32, as the paper's own CIFAR-10 networks do (section 4.2).
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18

PARAMETERS = 11_173_962


def fit_to_small_images(net: nn.Module, num_classes: int) -> nn.Module:
    """Replaces stem and head of an ImageNet ResNet-18, both freshly initialised."""
    stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own stem
    net.conv1 = stem
    net.maxpool = nn.Identity()
    net.fc = nn.Linear(512, num_classes)
    return net


def build(num_classes: int) -> nn.Module:
    """`[batch, 3, 32, 32]` float images to `[batch, num_classes]` logits."""
    return fit_to_small_images(resnet18(weights=None), num_classes)
