"""From a model's name to fresh models, and from a trained one to its file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from job import models


def builder(name: str, num_classes: int, weights: Mapping[str, Tensor] | None = None) -> Callable[[], nn.Module]:
    """A function that builds a fresh model, from `weights` for one that starts from some (`data.pretrained`)."""
    module = models.find(name)
    return partial(module.build, num_classes) if weights is None else partial(module.build, num_classes, weights)


def trainable_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def weights_file(model: nn.Module) -> bytes:
    """The model's state_dict as `torch.save` writes it, on the CPU and contiguous, so that any program can load it."""
    out = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, out)
    return out.getvalue()
