"""One setting, with what is told of it."""

from __future__ import annotations

from typing import Any

from pydantic import Field


def variable(
    group: str, default: Any, meaning: str, *, shapes: bool = False, later: bool = False, **limits: Any
) -> Any:
    """One setting. `shapes` marks what changes the result: such settings make up the run's name; one that came `later`
    than version 0.1.0 only where it is not its default, so that runs of before keep their names.
    """
    about: dict[str, Any] = {"group": group, "shapes": shapes, "later": later}
    return Field(default=default, description=meaning, json_schema_extra=about, **limits)
