"""What a recipe has in place of a variable's own default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from job import models
from job.settings.table import variables


def recipe_defaults(given: Mapping[str, Any]) -> dict[str, Any]:
    """Field → the recipe's own default, of what is not given, where there is a search."""
    model = given.get("model", variables()["model"].default)
    if given.get("recipe") != "strong" or given.get("learning_rate") is not None or model not in models.names():
        return {}
    try:
        recipe = models.recipe(model, "strong")
    except (ValueError, TypeError):  # which the field's own rule tells
        return {}
    own = {"tune_max_epochs": recipe.trial_epochs, "lr_min": recipe.rates[0], "lr_max": recipe.rates[1]}
    return {name: value for name, value in own.items() if name not in given}
