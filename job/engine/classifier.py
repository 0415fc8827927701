"""A trained model as others use it: `weights.pt` with what `model.json` tells about it. Pixels in, logits out."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from job import models
from job.data import Dataset
from job.engine.build import Builder
from job.engine.step import MEAN, STD
from job.errors import Fault, first_line
from job.models import PLAIN, Recipe


class Classifier(nn.Module):
    """A model with its normalisation in front.

    uint8 `[batch, rows, columns, RGB]`, as decoders give them, to float logits `[batch, classes]`.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.model = model
        # `pixel * scale + shift` normalises, in the order of the engine's own arithmetic and so to the same bits.
        self.register_buffer("scale", torch.tensor([1 / (255 * each) for each in std]))
        self.register_buffer("shift", torch.tensor([-each / own for each, own in zip(mean, std, strict=True)]))

    def forward(self, images: Tensor) -> Tensor:
        normalised = (images.float() * self.scale + self.shift).permute(0, 3, 1, 2)  # [batch, 3, rows, columns]
        logits: Tensor = self.model(normalised)
        return logits


def describe(build: Builder, dataset: Dataset, resize: str, precision: str, test: Mapping[str, float]) -> bytes:
    """`model.json`: all that is needed beside `weights.pt` to load the model, feed it and check its figures `test`."""
    about = {
        "model": build.name,
        **({} if build.recipe == PLAIN else {"recipe": build.recipe.name}),  # it may be built otherwise
        "num_classes": len(dataset.classes),
        "classes": list(dataset.classes),
        "image_size": dataset.test.images.shape[1],
        "resize": resize,
        "mean": list(MEAN),
        "std": list(STD),
        "precision": precision,
        "torch": torch.__version__,
        "test": dict(test),
        "dataset": dataset.name,
        "data_sha256": dataset.sha256,
    }
    return (json.dumps(about, indent=2) + "\n").encode()


def fresh(about: dict[str, Any]) -> Classifier:
    """The classifier that `model.json` describes, in evaluation mode, on the CPU, with weights that nobody trained.

    Raises Fault where this job has no such model.
    """
    try:
        name, classes, size = str(about["model"]), int(about["num_classes"]), int(about["image_size"])
        mean, std = [float(value) for value in about["mean"]], [float(value) for value in about["std"]]
        if len(about["classes"]) != classes or len(mean) != len(std):
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise Fault("model.json does not tell which model it is.", "Take the one that the run left.") from None
    if name not in models.names():
        raise Fault(
            f"model.json names the model {name}, which job/models/ does not have.",
            f"Put {name}.py there; there are: {', '.join(models.names())}.",
        )
    recipe = recipe_named(name, str(about.get("recipe", PLAIN.name)))
    return Classifier(Builder(name, classes, size, recipe=recipe)(), mean, std).eval()


def load(about: dict[str, Any], weights: bytes) -> Classifier:
    """The classifier, in evaluation mode, on the CPU, from `model.json` and `weights.pt`.

    Raises Fault where this job has no such model or the weights are not its weights.
    """
    loaded = fresh(about)
    try:
        loaded.model.load_state_dict(torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True))
    except pickle.UnpicklingError as error:  # whose text advises to load it all the same, which would run its code
        raise Fault(
            "weights.pt holds other things than weights, or is damaged: it was not loaded.",
            "Take weights.pt and model.json from the run itself; a file that needs more than weights may run code.",
        ) from error
    except Exception as error:  # torch.load raises whatever its unpickler meets
        raise Fault(
            f"weights.pt does not fit job/models/{about['model']}.py: {first_line(error)}",
            "Take weights.pt and model.json from the same run, and the model's file as it was then.",
        ) from error
    return loaded


def recipe_named(model: str, recipe: str) -> Recipe:
    """The model's recipe of this name. Raises Fault where there is none."""
    if recipe not in models.RECIPES:
        raise Fault(
            f"model.json names the recipe {recipe}, which this job does not have.",
            f"There are: {', '.join(models.RECIPES)}. A newer version of the job may have it.",
        )
    return models.recipe(model, recipe)
