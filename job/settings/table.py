"""The table of `variables` as others read it: by name, and what is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

from job import models
from job.settings.variables import Variables


def variables() -> dict[str, FieldInfo]:
    return Variables.model_fields


def extra(variable_name: str) -> dict[str, Any]:
    content = variables()[variable_name.lower()].json_schema_extra
    assert isinstance(content, dict)
    return content


def with_defaults(shaping: Mapping[str, Any]) -> dict[str, Any]:
    """What a run was shaped by, with the variables that its manifest leaves out because they held their default."""
    later = {name.upper(): field.default for name, field in variables().items() if extra(name)["later"]}
    return later | dict(shaping)


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
