"""A small VGG-style convolutional network (Simonyan and Zisserman, 2014) with batch norm (Ioffe and Szegedy, 2015)."""

from __future__ import annotations

from torch import nn

PARAMETERS = 1_147_914
STRONG = {
    "optimizer": "sgd-nesterov",
    "rates": (0.01, 0.4),
    "weight_decay": 5e-4,
    "epochs": 60,
    "label_smoothing": 0.1,
    "augmentation": ("crop", "flip", "cutout"),
}


def block(channels_in: int, channels_out: int) -> list[nn.Module]:
    """`[batch, channels_in, side, side]` to `[batch, channels_out, side / 2, side / 2]`."""
    return [
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]


def build(num_classes: int, image_size: int = 32, strong: bool = False) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images, a multiple of 8, to `[batch, num_classes]` logits.

    `strong`: with less dropout, since augmentation does its work.
    """
    side = image_size // 8  # after three times max-pooling
    return nn.Sequential(
        *block(3, 32),
        *block(32, 64),
        *block(64, 128),
        nn.Flatten(),  # [batch, 128 * side * side]
        nn.Linear(128 * side * side, 512),
        nn.ReLU(),
        nn.Dropout(0.2 if strong else 0.5),
        nn.Linear(512, num_classes),
    )
