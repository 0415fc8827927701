"""A multi-layer perceptron on the flattened pixels: 3072-512-256-classes at 32x32 pixels."""

from __future__ import annotations

from torch import nn

PARAMETERS = 1_707_274
STRONG = {
    "optimizer": "adamw",
    "rates": (2e-4, 5e-3),
    "weight_decay": 0.05,
    "epochs": 100,
    "label_smoothing": 0.1,
    "augmentation": ("shift", "flip", "mixup"),
}


def build(num_classes: int, image_size: int = 32) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images to `[batch, num_classes]` logits."""
    return nn.Sequential(
        nn.Flatten(),  # [batch, 3 * image_size ** 2]
        nn.Linear(3 * image_size**2, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )
