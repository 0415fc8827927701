"""The table of `variables` as others read it: by name, and what is told of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.fields import FieldInfo

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
