"""ResNet-18 (He et al., 2015, https://arxiv.org/abs/1512.03385) from a random start.

Below 96 pixels it has another stem: that of ImageNet (7x7 stride 2, then max-pool) would leave 8x8 of 32x32; 3x3
stride 1 without the pool keeps 32x32, as the paper's own CIFAR-10 networks do (section 4.2).
"""

from __future__ import annotations

from torch import nn
from torchvision.models import resnet18

PARAMETERS = 11_173_962
STRONG = {
    "optimizer": "sgd-nesterov",
    "rates": (0.01, 0.4),
    "weight_decay": 5e-4,
    "epochs": 100,
    "label_smoothing": 0.1,
    "augmentation": ("crop", "flip", "cutout"),
}

LARGE = 96  # pixels from which on the ImageNet stem leaves 3x3 and more for the last block


def fitted(net: nn.Module, num_classes: int, image_size: int) -> nn.Module:
    """An ImageNet ResNet-18 with a head for `num_classes` and, for small images, another stem; both freshly
    initialised.
    """
    if image_size >= LARGE:
        net.fc = nn.Linear(512, num_classes)
        return net
    stem = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")  # as torchvision starts its own stem
    net.conv1 = stem
    net.maxpool = nn.Identity()
    net.fc = nn.Linear(512, num_classes)
    return net


def build(num_classes: int, image_size: int = 32) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images to `[batch, num_classes]` logits."""
    return fitted(resnet18(weights=None), num_classes, image_size)
