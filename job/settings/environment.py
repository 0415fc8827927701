"""Reads the environment: the settings it holds, and every fault in it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from job.errors import Fault
from job.settings.redaction import without_secrets
from job.settings.rules import bounds, literal_choices, type_of
from job.settings.slips import did_you_mean, misspelled
from job.settings.variables import Settings, variables

NOT_SLIPS = {"MODELS"}  # the list of models for `make run-all` and indexed jobs
REMEDY = "Every variable is explained by: python -m job --help"
# Rules that look at another variable too.
JUDGED_WITH = {"input": "mode", "epochs": "learning_rate", "lr_max": "lr_min"}


def load(strict: bool = False) -> Settings:
    """The settings in the process environment. Raises Fault that lists every fault at once.

    With MODE=check nothing is raised, unless `strict`: the preflight shows the faults itself (see `faults`) and goes on
    with defaults in their place, as far as that says anything.
    """
    settings, wrong = read()
    if wrong and (strict or settings.mode != "check"):
        told = [fault for faults in wrong.values() for fault in faults]
        word = "setting is" if len(told) == 1 else "settings are"
        raise Fault(f"{len(told)} {word} wrong:\n" + "\n".join(f"  - {fault}" for fault in told), REMEDY)
    return settings


def read() -> tuple[Settings, dict[str, list[str]]]:
    """The settings, with defaults for what is wrong, and variable → its faults; none where all is right.

    A misspelled variable stands under the name that was probably meant.
    """
    wrong: dict[str, list[str]] = {}
    for name, meant in slips().items():
        wrong.setdefault(meant, []).append(f"{name}: there is no such variable; did you mean {meant}?")
    replaced: dict[str, Any] = {}
    while True:
        try:
            return Settings(**replaced), wrong
        except ValidationError as error:
            details = error.errors()
            names = [str(detail["loc"][0]) for detail in details]
            if not replaced:  # what comes later comes from the defaults
                for name, detail in zip(names, details, strict=True):
                    wrong.setdefault(name.upper(), []).append(describe(detail))
            names += [JUDGED_WITH[name] for name in names if name in JUDGED_WITH]
            assert not set(names) <= set(replaced), "the defaults are right"
            replaced |= {name: variables()[name].default for name in names}


def slips() -> dict[str, str]:
    """Variable that is set → the one of ours that was probably meant."""
    ours = {name.upper() for name in variables()}
    others = [name for name, value in os.environ.items() if value and name.upper() not in ours | NOT_SLIPS]
    return misspelled(others, ours)


def faults() -> dict[str, list[str]]:
    """Variable → what is wrong with it in the process environment."""
    return read()[1]


def raw(name: str) -> str:
    """What the environment holds for a variable, as it was written; empty where it is not set."""
    return os.environ.get(name) or next((value for key, value in os.environ.items() if key.upper() == name), "")


def log_format() -> str:
    """`LOG_FORMAT` where it is right, else `text`: wrong settings have to be told in some format."""
    return "json" if os.environ.get("LOG_FORMAT", "").strip() == "json" else "text"


def no_color() -> bool:
    """Whether the user wants no colours anywhere (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def describe(detail: Mapping[str, Any]) -> str:
    """`VARIABLE=value: what is allowed`, from one of pydantic's errors."""
    name = str(detail["loc"][0]).upper()
    given = raw(name)
    kind = detail["type"]
    if kind == "value_error":
        rule = str(detail["ctx"]["error"])
    elif kind == "literal_error":
        choices = literal_choices(name)
        rule = f"choose from: {', '.join(choices)}{did_you_mean(given, choices)}"
    elif kind.startswith(("int_", "float_", "finite_", "bool_", "greater_", "less_")):
        rule = f"must be {type_of(name)}{bounds(name)}"
    else:
        rule = f"{detail['msg']}{bounds(name)}"
    return f"{name}={without_secrets(given)}: {rule}" if given else f"{name}: {rule}"
