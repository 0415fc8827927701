"""What the JSON files of a run must look like to be used: read once, here, so that nothing else need doubt them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NUMBER = (int, float)
WORDS = {str: "text", int: "whole number", float: "number", dict: "object", type(None): "null"}
EACH = "*"  # as a key: any name, its value like this
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Optional:
    """A field that older runs do not have."""

    shape: Any


FILE = {"size": int, "sha256": SHA256}
MANIFEST = {
    "run": str,
    "settings": {"MODEL": str, "DATASET": str, "DATA_LIMIT": (int, type(None)), "SEED": int},
    "data_sha256": SHA256,
    "code": Optional({EACH: str}),
    "files": {EACH: FILE},
}
STATUS = {
    "phase": str,
    "attempt": int,
    "progress": dict,
    "last_error": ({"what": str, "remedy": str, "exit_code": int}, type(None)),
}
TEST = {"loss": NUMBER, "accuracy_percent": NUMBER}
RESULTS = {
    "model": {"name": str, "parameters": int},
    "recipe": {"learning_rate": NUMBER, "epochs": int},
    "test": TEST,
    "test_time_flip": Optional(TEST),
    "time_limit": Optional({"hours": NUMBER, "in_words": str}),
    "evaluation": Optional({"classes": [{"name": str, "support": int}], "confusion_matrix": [[int]]}),
    "tuning": {"seconds": NUMBER},
    "training": {"seconds": NUMBER},
    "data": {"name": str, "train_images": int, "test_images": int, "origin": Optional(str)},
    "provenance": {
        "hardware": str,
        "precision": str,
        "versions": {EACH: (str, type(None))},
        "arithmetic": {"device": str, "precision": str, "threads": Optional((int, type(None)))},
    },
}
MODEL = {
    "model": str,
    "recipe": Optional(str),
    "num_classes": int,
    "classes": [str],
    "image_size": int,
    "mean": [NUMBER],
    "std": [NUMBER],
    "test": TEST,
    "dataset": str,
    "data_sha256": SHA256,
}


def parsed(content: bytes, shape: Mapping[str, Any]) -> dict[str, Any]:
    """The object in `content`. Raises ValueError that names the first field that is not as `shape` says."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise ValueError("it is no JSON" if content else "it is empty") from None
    wrong = mismatch(value, shape, "")
    if wrong:
        raise ValueError(wrong)
    assert isinstance(value, dict)
    return value


def mismatch(value: Any, shape: Any, place: str) -> str:
    """What is wrong with `value`, called `place`, or nothing.

    A shape is a type, several of them, a pattern for a whole text, a list with the shape of every item, or an object:
    the shape of each field that is needed.
    """
    named = place or "it"
    if isinstance(shape, tuple):
        wrongs = [mismatch(value, each, place) for each in shape]
        return "" if "" in wrongs else wrongs[0]
    if isinstance(shape, re.Pattern):
        return "" if isinstance(value, str) and shape.fullmatch(value) else f"{named} is no SHA-256"
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{named} is no list"
        return first(mismatch(item, shape[0], f"{place}[{number}]") for number, item in enumerate(value))
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            return f"{named} is no object"
        return first(of_field(value, name, each, place) for name, each in shape.items())
    if isinstance(value, bool) and shape is not bool:
        return f"{named} is only true or false"
    return "" if isinstance(value, shape) else f"{named} is no {WORDS.get(shape, shape.__name__)}"


def of_field(value: dict[str, Any], name: str, shape: Any, place: str) -> str:
    prefix = f"{place}." if place else ""
    if name == EACH:
        return first(mismatch(item, shape, f"{prefix}{key}") for key, item in value.items())
    if isinstance(shape, Optional):
        if name not in value:
            return ""
        shape = shape.shape
    return mismatch(value[name], shape, f"{prefix}{name}") if name in value else f"{prefix}{name} is missing"


def first(wrongs: Any) -> str:
    return next((wrong for wrong in wrongs if wrong), "")
