"""One file a model. Each has `PARAMETERS`, the count of trainable parameters with ten classes, and
`build(num_classes, image_size) -> nn.Module`: float images `[batch, 3, image_size, image_size]` in, logits `[batch,
num_classes]` out. `PARAMETERS` holds for 32 pixels; where `build` takes the classes alone, it is for 32 pixels alone.

A model that starts from stored weights also has `expected() -> dict[str, Tensor]`, names and shapes (on the meta
device) of what it takes from a file; `REPLACED`, beginnings of the names that it does not take; and `ADDRESS`, where
the file is published, the beginning of its SHA-256 in its name. `build(num_classes, image_size, weights)` gets them
under these names; without them `build` gives the same network, for trained weights to be loaded. `data.pretrained`
reads the files.

A model may have a recipe of its own for `RECIPE=strong`: `STRONG`, a literal dict of `Recipe`'s fields, read without
importing the file. Where its `build` has a parameter `strong`, it is true under that recipe: the network may be built
otherwise, with the same names and shapes of parameters.
Nothing is registered anywhere: the file's name is the model's name.
"""

from __future__ import annotations

import ast
import importlib
import math
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "sgd-nesterov": "SGD with Nesterov momentum 0.9"}
PARTS = {
    "crop": "random crop with padding of an eighth",
    "shift": "random crop with padding of a sixteenth",
    "flip": "horizontal flip",
    "trivial": "TrivialAugment",
    "cutout": "cutout of a quarter's side",
    "mixup": "mixup",
    "cutmix": "cutmix",
}


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. `rates` are the ends of the search range of the learning rate, under a schedule of its
    peak. `epochs` is None where the search finds their number, which leaves the rate constant; else the rate has a
    schedule (`engine.schedule`) of so many epochs. `augmentation` names some of `PARTS`. Raises ValueError.
    """

    name: str
    optimizer: str
    rates: tuple[float, float]
    weight_decay: float = 0.0
    epochs: int | None = None
    label_smoothing: float = 0.0
    augmentation: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        low, high = self.rates
        known = self.optimizer in OPTIMIZERS and set(self.augmentation) <= set(PARTS)
        if not known or not 0 < low < high or not 0 <= self.label_smoothing < 1 or self.weight_decay < 0:
            raise ValueError(f"no recipe: {self}")
        for pair in ({"mixup", "cutmix"}, {"crop", "shift"}):
            if pair <= set(self.augmentation):
                raise ValueError(f"{' and '.join(sorted(pair))} exclude each other")

    @property
    def scheduled(self) -> bool:
        """Whether the rate follows a schedule, which needs the number of epochs before the first."""
        return self.epochs is not None

    @property
    def trial_epochs(self) -> int | None:
        """Epochs of a trial where nobody says otherwise; None where it is the setting's own default."""
        return 10 if self.scheduled else None

    def words(self) -> str:
        """The recipe as a sentence for people, without a full stop."""
        decay = f", weight decay {self.weight_decay:g}" if self.weight_decay else ""
        rate = "warm-up over the first 5 % of the steps, then a cosine to zero" if self.scheduled else "constant rate"
        smoothing = f"label smoothing {self.label_smoothing:g}" if self.label_smoothing else ""
        parts = ", ".join(text for name, text in PARTS.items() if name in self.augmentation)
        optimizer = OPTIMIZERS[self.optimizer] + decay
        return "; ".join(filter(None, [optimizer, rate, smoothing, parts or "no augmentation"]))


PLAIN = Recipe("plain", "adam", (math.exp(-10), math.exp(-4)))
RECIPES = ("plain", "strong")
# Of a model that says nothing: AdamW at rates around its default, and augmentation that hurts no small network.
GENERAL: dict[str, Any] = {
    "optimizer": "adamw",
    "rates": (1e-4, 1e-2),
    "weight_decay": 0.05,
    "epochs": 60,
    "label_smoothing": 0.1,
    "augmentation": ("crop", "flip", "cutout"),
}


def names() -> tuple[str, ...]:
    """The models there are, without importing any of them (settings need the names before torch is loaded)."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def starts_from_weights(name: str) -> bool:
    """Whether the model called `name` has `expected`, by a look at its file: settings are read before torch is."""
    return says(name, r"^def expected\(")


def recipe(name: str, which: str) -> Recipe:
    """The recipe `plain` or `strong` of the model called `name`, by a look at its file.

    Raises ValueError where the file's `STRONG` is none, TypeError where it has a field that no recipe has.
    """
    if which == PLAIN.name:
        return PLAIN
    return Recipe(which, **(GENERAL | own_recipe(name)))


def own_recipe(name: str) -> dict[str, Any]:
    """`STRONG` of the model's file; empty where it has none."""
    for node in ast.parse(text_of(name)).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "STRONG":
            fields: dict[str, Any] = ast.literal_eval(node.value)
            return fields
    return {}


def builds_strong(name: str) -> bool:
    """Whether the model called `name` is built otherwise under `strong`, by a look at its file."""
    return says(name, r"^def build\([^)]*\bstrong\b")


def text_of(name: str) -> str:
    return (Path(__path__[0]) / f"{name}.py").read_text("utf-8")


def says(name: str, pattern: str) -> bool:
    """Whether the text of the model's file has it."""
    return re.search(pattern, text_of(name), re.MULTILINE) is not None


def takes_any_size(name: str) -> bool:
    """Whether the model called `name` can be built for other images than 32x32, by a look at its file."""
    return says(name, r"^def build\([^)]*\bimage_size\b")


def find(name: str) -> ModuleType:
    """The module of the model called `name`."""
    return importlib.import_module(f"{__name__}.{name}")
