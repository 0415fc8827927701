"""What a variable may hold, in words, from its own declaration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from job import models
from job.settings.checked import Settings
from job.settings.places import PLACES
from job.settings.table import variables
from job.settings.values import kinds


def bounds(name: str) -> str:
    """The allowed range in words, from the field's own limits."""
    words = {"gt": "greater than", "ge": "at least", "lt": "less than", "le": "at most"}
    parts = [
        f"{word} {getattr(limit, key):g}"
        for limit in variables()[name.lower()].metadata
        for key, word in words.items()
        if getattr(limit, key, None) is not None
    ]
    return f", {' and '.join(parts)}" if parts else ""


def literal_choices(name: str) -> tuple[str, ...]:
    return kinds(variables()[name.lower()].annotation)


def type_of(name: str) -> str:
    """The type in words, such as `a whole number`."""
    if name == "MODEL":
        return f"one of {', '.join(models.names())}"
    place = PLACES.get(name.lower())
    if place:
        return "addresses" if place.many else place.in_words
    found = kinds(variables()[name.lower()].annotation)
    if all(isinstance(kind, str) for kind in found):
        return f"one of {', '.join(map(str, found))}"
    words: dict[Any, str] = {int: "a whole number", float: "a number", bool: "1 or 0", Path: "a path", str: "text"}
    return words[found[0]]


def default_of(name: str) -> str:
    """The default as one would write it in the environment; empty for none."""
    return written(variables()[name.lower()].default)


def written(value: Any) -> str:
    """A value as one would write it in the environment; empty for none."""
    if value is None:
        return ""
    if isinstance(value, tuple):
        return ",".join(value)
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float):
        return f"{value:g}" if value.is_integer() else repr(value)  # repr: the very same number when it is read again
    return f"./{value}" if isinstance(value, Path) and not value.is_absolute() else str(value)


def value_of(settings: Settings, name: str) -> str:
    """What these settings hold, as one would write it in the environment; empty for none."""
    return written(getattr(settings, name.lower()))
