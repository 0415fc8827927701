"""The optimizer of a recipe, one fused kernel for all weights that are treated alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from job.device.adam import Adam, AdamW
from job.device.sgd import SGD
from job.models import Recipe

MOMENTUM = 0.9


def optimizer_of(
    model: nn.Module,
    recipe: Recipe,
    learning_rate: float,
    on_gpu: bool,
    pieces: Mapping[bool, Sequence[nn.Parameter]] | None = None,
) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2014, https://arxiv.org/abs/1412.6980), AdamW (Loshchilov and Hutter, 2017,
    https://arxiv.org/abs/1711.05101) or SGD with Nesterov momentum (Sutskever et al., ICML 2013).

    On a GPU Adam's step count lies there as well, so that a CUDA graph can hold it. `pieces` hold the model's weights
    where they are one row (see `flat`), those that decay and the others.
    """
    if recipe.optimizer == "adam" and not recipe.weight_decay:
        weights = [one for part in pieces.values() for one in part] if pieces else model.parameters()
        return Adam(weights, lr=learning_rate, fused=True, capturable=on_gpu)
    if pieces:
        groups = [{"params": pieces[heavy], "weight_decay": recipe.weight_decay * heavy} for heavy in sorted(pieces)]
    else:
        groups = by_decay(model, recipe.weight_decay)
    if recipe.optimizer == "sgd-nesterov":
        return SGD(groups, lr=learning_rate, momentum=MOMENTUM, nesterov=True, fused=True)
    kind = AdamW if recipe.optimizer == "adamw" else Adam
    return kind(groups, lr=learning_rate, fused=True, capturable=on_gpu)


def by_decay(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The weights of products and convolutions decay; norms, biases, class token and position do not."""
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    decaying = [one for name, one in named if decays(name, one)]
    others = [one for name, one in named if not decays(name, one)]
    groups = [{"params": decaying, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def decays(name: str, parameter: Tensor) -> bool:
    return name.endswith("weight") and parameter.dim() > 1


def follow(optimizer: torch.optim.Optimizer, rate: Tensor) -> None:
    """Has all weights learn at `rate`, a scalar tensor that may change between steps: its place in memory stays, which
    a CUDA graph needs.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
