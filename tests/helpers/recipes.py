"""Builders under a recipe, for tests that need no model of the job's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from job.models import Recipe

SGD = {"optimizer": "sgd-nesterov", "rates": (0.01, 0.1), "weight_decay": 0.05, "epochs": 3, "label_smoothing": 0.1}
ADAMW = {"optimizer": "adamw", "rates": (1e-4, 1e-2), "weight_decay": 0.05, "epochs": 3, "label_smoothing": 0.1}


def under(build: Callable[[], nn.Module], fields: dict[str, Any], **others: Any) -> Callable[[], nn.Module]:
    """The builder, whose models are trained by a recipe with these fields."""
    builder: Any = partial(build)
    builder.recipe = Recipe("strong", **(fields | others))
    made: Callable[[], nn.Module] = builder
    return made
