"""From a model's name to fresh models, and from a trained one to its file."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from job import models
from job.models import PLAIN, Recipe

SMALL = 32  # pixels a side: CIFAR-10's images


@dataclass(frozen=True)
class Builder:
    """Builds fresh models: of the file called `name`, for so many classes and images of so many pixels a side, from
    `weights` for one that starts from some (`data.pretrained`). `class_weights` is what an image of each class counts
    in the loss that they are trained with; None: all the same. `recipe` is how they are built and trained.
    """

    name: str
    classes: int
    image_size: int = SMALL
    weights: Mapping[str, Tensor] | None = None
    class_weights: tuple[float, ...] | None = None
    recipe: Recipe = PLAIN

    def __call__(self) -> nn.Module:
        build = models.find(self.name).build
        size = {"image_size": self.image_size} if models.takes_any_size(self.name) else {}
        weights = {} if self.weights is None else {"weights": self.weights}
        strong = {"strong": True} if self.recipe.name != PLAIN.name and models.builds_strong(self.name) else {}
        model: nn.Module = build(self.classes, **size, **weights, **strong)
        return model


def side(build: Callable[[], nn.Module]) -> int:
    """Pixels a side of the images that a builder's models take; 32 where it does not say."""
    return int(getattr(build, "image_size", SMALL))


def recipe_of(build: Callable[[], nn.Module]) -> Recipe:
    """How a builder's models are trained; plainly where it does not say."""
    return getattr(build, "recipe", PLAIN)


def class_weights(build: Callable[[], nn.Module], like: Tensor) -> Tensor | None:
    """What an image of each class counts in the training loss, `[classes]`, in dtype and place of `like`; None where a
    builder says nothing.
    """
    given = getattr(build, "class_weights", None)
    return None if given is None else torch.tensor(given, dtype=like.dtype, device=like.device)


def balanced(labels: Tensor, classes: int) -> tuple[float, ...]:
    """Weights inverse to how often each class occurs in `labels`, 1 on average over the images (King and Zeng, Logistic
    regression in rare events data, Political Analysis 9, 2001); 0 for a class without images.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).double()
    present = int((counts > 0).sum())
    return tuple(len(labels) / (present * count) if count else 0.0 for count in counts.tolist())


def parameters(name: str, classes: int, image_size: int) -> int:
    """How many trainable parameters a model would have, without its memory."""
    with torch.device("meta"):
        return trainable_parameters(Builder(name, classes, image_size)())


def trainable_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def weights_file(model: nn.Module) -> bytes:
    """The model's state_dict as `torch.save` writes it, on the CPU and contiguous, so that any program can load it."""
    out = io.BytesIO()
    torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, out)
    return out.getvalue()
