"""One file a model. Each has `PARAMETERS`, the count of trainable parameters with ten classes, and
`build(num_classes, image_size) -> nn.Module`: float images `[batch, 3, image_size, image_size]` in, logits `[batch,
num_classes]` out. `PARAMETERS` holds for 32 pixels; where `build` takes the classes alone, it is for 32 pixels alone.

A model that starts from stored weights also has `expected() -> dict[str, Tensor]`, names and shapes (on the meta
device) of what it takes from a file; `REPLACED`, beginnings of the names that it does not take; and `ADDRESS`, where
the file is published, the beginning of its SHA-256 in its name. `build(num_classes, image_size, weights)` gets them
under these names; without them `build` gives the same network, for trained weights to be loaded. `data.pretrained`
reads the files.
Nothing is registered anywhere: the file's name is the model's name.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from types import ModuleType


def names() -> tuple[str, ...]:
    """The models there are, without importing any of them (settings need the names before torch is loaded)."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def starts_from_weights(name: str) -> bool:
    """Whether the model called `name` has `expected`, by a look at its file: settings are read before torch is."""
    return says(name, r"^def expected\(")


def says(name: str, pattern: str) -> bool:
    """Whether the text of the model's file has it."""
    return re.search(pattern, (Path(__path__[0]) / f"{name}.py").read_text("utf-8"), re.MULTILINE) is not None


def takes_any_size(name: str) -> bool:
    """Whether the model called `name` can be built for other images than 32x32, by a look at its file."""
    return says(name, r"^def build\([^)]*\bimage_size\b")


def find(name: str) -> ModuleType:
    """The module of the model called `name`."""
    return importlib.import_module(f"{__name__}.{name}")
