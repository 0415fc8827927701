"""What learners of one stack have in common: a model's forward, its shapes, what it draws and keeps for an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from job.device import Compute
from job.device.optimizers import decays
from job.engine.build import recipe_of, side
from job.engine.criterion import Criterion, criterion_of
from job.models import Recipe
from job.search.stacked.draws import Draws

# What runs stacked with the same numbers as alone. Others may, but nothing has compared them.
LAYERS = (
    nn.Linear,
    nn.Conv2d,
    nn.BatchNorm2d,
    nn.LayerNorm,
    nn.Dropout,
    nn.MultiheadAttention,
    nn.ReLU,
    nn.MaxPool2d,
    nn.AdaptiveAvgPool2d,
    nn.Flatten,
    nn.Identity,
)


def runs_stacked(model: nn.Module, compute: Compute) -> bool:
    """Whether every layer is one of `LAYERS`, in a precision without loss scaling, whose scale would be one for all."""
    leaves = [module for module in model.modules() if not list(module.children())]
    return compute.precision != "fp16" and all(isinstance(leaf, LAYERS) for leaf in leaves)


@dataclass(frozen=True)
class Architecture:
    """What learners of one stack have in common. `model` lends its forward; its own weights are never used.

    `draws` is how many dropout decisions one image takes, `activations` the bytes that one image's forward pass
    leaves in memory for the backward pass, in fp32. `decay` is the weight decay of each parameter, `[parameters]`; None
    where there is none.
    """

    model: nn.Module
    classes: int
    shapes: dict[str, torch.Size]
    draws: int
    activations: int
    recipe: Recipe
    criterion: Criterion
    decay: Tensor | None

    @property
    def squares(self) -> bool:
        """Whether the optimizer keeps a running mean of the gradients' squares."""
        return self.recipe.optimizer != "sgd-nesterov"

    @property
    def parameters(self) -> int:
        return sum(shape.numel() for shape in self.shapes.values())

    def views(self, weights: Tensor) -> dict[str, Tensor]:
        """`[learners, parameters]` as one `[learners, *shape]` a parameter, without a copy."""
        parts = torch.split(weights, [shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.view(len(part), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }


def architecture(build: Callable[[], nn.Module], compute: Compute) -> Architecture:
    """Builds one model and counts, with two images on the CPU, what it draws and keeps for an image."""
    model = build()
    images, kept = torch.zeros(2, 3, side(build), side(build)), 0
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        if tensor.untyped_storage().data_ptr() not in weights:
            kept += tensor.numel() * tensor.element_size()
        return tensor

    with torch.random.fork_rng(devices=[]), Draws() as draws:
        model.train()
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            logits = model(images)  # [2, classes]
    learnt = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    recipe, like = recipe_of(build), torch.empty(0, dtype=compute.param_dtype, device=compute.device)
    decay = torch.cat([like.new_full((one.numel(),), recipe.weight_decay * decays(name, one)) for name, one in learnt])
    return Architecture(
        model.to(compute.device),
        logits.shape[1],
        {name: parameter.shape for name, parameter in learnt},
        *(draws.taken // len(images), kept // len(images)),
        recipe,
        criterion_of(build, like),
        decay if recipe.weight_decay else None,
    )


def bytes_each(kind: Architecture, batch_size: int) -> int:
    """What one learner takes of the device's memory, estimated: weights, gradients and their copies, Adam, activations.

    Six float32 a parameter: weight, update, two running means, and a gradient twice while the parts are put in a row;
    half as many bytes again cover copies in another precision. Activations count twice, for their gradients.
    """
    weights = 6 * 4 * kind.parameters * 3 // 2
    return weights + batch_size * (2 * kind.activations + 4 * kind.draws)
