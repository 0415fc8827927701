"""The optimizer of a recipe, one fused kernel for all weights that are treated alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from job.device.adam import Adam, AdamW
from job.device.sgd import SGD
from job.models import Recipe

MOMENTUM = 0.9


def optimizer_of(
    groups: list[dict[str, Any]], recipe: Recipe, learning_rate: float, on_gpu: bool
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980), AdamW (Loshchilov and Hutter, 2017,
    https://arxiv.org/abs/1711.05101) or SGD with Nesterov momentum (Sutskever et al., ICML 2013).

    On a GPU Adam's step count lies there as well, so that a CUDA graph can hold it. `groups` are the weights, see
    `grouped`.
    """
    if recipe.optimizer == "sgd-nesterov":
        return SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
    kind = AdamW if recipe.optimizer == "adamw" else Adam
    return kind(groups, lr=learning_rate, fused=True, capturable=on_gpu)


def by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The weights of products and convolutions decay; norms, biases, class token and position do not."""
    named = ((name, one) for name, one in model.named_parameters() if one.requires_grad)
    return grouped(((one, bool(weight_decay) and decays(name, one)) for name, one in named), weight_decay)


def grouped(weights: Iterable[tuple[nn.Parameter, bool]], weight_decay: float) -> list[dict[str, Any]]:
    """Weights as an optimizer takes them: those that decay, which each one says, and then the others."""
    parts: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for one, decaying in weights:
        parts[decaying].append(one)
    return [{"params": part, "weight_decay": weight_decay * decaying} for decaying, part in parts.items() if part]


def decays(name: str, parameter: Tensor) -> bool:
    return name.endswith("weight") and parameter.dim() > 1


def follow(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Has all weights learn at `rate`, a scalar tensor that may change between steps: its place in memory stays, which
    a CUDA graph needs.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
