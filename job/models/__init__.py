"""One file a model. Each has `PARAMETERS`, the count of trainable parameters with ten classes, and
`build(num_classes) -> nn.Module`: float images `[batch, 3, 32, 32]` in, logits `[batch, num_classes]` out.

A model that starts from stored weights also has `expected() -> dict[str, Tensor]`, names and shapes (on the meta
device) of what it takes from a file; `REPLACED`, beginnings of the names that it does not take; and `ADDRESS`, where
the file is published, the beginning of its SHA-256 in its name. `build(num_classes, weights)` gets them under these
names; without them `build` gives the same network, for trained weights to be loaded. `data.pretrained` reads the files.
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
    return re.search(r"^def expected\(", (Path(__path__[0]) / f"{name}.py").read_text("utf-8"), re.M) is not None


def find(name: str) -> ModuleType:
    """The module of the model called `name`."""
    return importlib.import_module(f"{__name__}.{name}")
