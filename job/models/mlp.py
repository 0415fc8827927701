"""A multi-layer perceptron on the flattened pixels: 3072-512-256-classes."""

from __future__ import annotations

from torch import nn

PARAMETERS = 1_707_274


def build(num_classes: int) -> nn.Module:
    """`[batch, 3, 32, 32]` float images to `[batch, num_classes]` logits."""
    return nn.Sequential(
        nn.Flatten(),  # [batch, 3072]
        nn.Linear(3 * 32 * 32, 512),
        nn.ReLU(),
        nn.Linear(512, 256),
        nn.ReLU(),
        nn.Linear(256, num_classes),
    )
