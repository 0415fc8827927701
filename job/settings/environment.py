"""Reads the environment: the settings it holds, and every fault in it at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from job.errors import Fault
from job.settings import foreign
from job.settings.checked import Settings
from job.settings.effects import of_the_plain_recipe, without_effect
from job.settings.redaction import told
from job.settings.rules import bounds, literal_choices, type_of
from job.settings.slips import did_you_mean, foreign_names, misspelled
from job.settings.table import variables

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
        lines = [f"  - {fault}" for faults in wrong.values() for fault in faults]
        word = "setting is" if len(lines) == 1 else "settings are"
        raise Fault(f"{len(lines)} {word} wrong:\n" + "\n".join(lines), REMEDY)
    return settings


def read() -> tuple[Settings, dict[str, list[str]]]:
    """The settings, with defaults for what is wrong, and variable → its faults; none where all is right.

    A misspelled variable stands under the name that was probably meant.
    """
    wrong: dict[str, list[str]] = {}
    for name, meant in misspelled(os.environ, names()).items():
        wrong.setdefault(meant, []).append(f"{name}: there is no such variable; did you mean {meant}?")
    settings = replacing_faults(wrong)
    for name, fault in foreign.faults(os.environ, settings.uses_s3):
        wrong.setdefault(name, []).append(fault)
    return settings, wrong


def replacing_faults(wrong: dict[str, list[str]]) -> Settings:
    """The settings, with defaults for what is wrong, which is written into `wrong`."""
    replaced: dict[str, Any] = {}
    while True:
        try:
            return Settings(**replaced)
        except ValidationError as error:
            details = error.errors()
            fields = [str(detail["loc"][0]) for detail in details]
            if not replaced:  # what comes later comes from the defaults
                for field, detail in zip(fields, details, strict=True):
                    wrong.setdefault(field.upper(), []).append(describe(detail))
            fields += [JUDGED_WITH[field] for field in fields if field in JUDGED_WITH]
            assert not set(fields) <= set(replaced), "the defaults are right"
            replaced |= {field: variables()[field].default for field in fields}


def names() -> set[str]:
    return {name.upper() for name in variables()}


def notes(settings: Settings) -> list[str]:
    """What may be meant otherwise than it is read, a line each: names that are not ours, settings that do nothing."""
    lines = foreign_names(os.environ, names())
    if settings.mode in ("run", "check"):
        lines += [f"{name} is without effect: {why}" for name, why in without_effect(settings).items()]
        lines += of_the_plain_recipe(settings)
    return lines


def settle() -> None:
    """Puts right the variables of other programs that only get in the way; see `foreign.settle`."""
    foreign.settle(os.environ)


def blamed(error: Exception) -> Fault | None:
    """The fault of a variable that a library refused while it was loaded; None where it was something else."""
    return foreign.blamed(error, os.environ)


def faults() -> dict[str, list[str]]:
    """Variable → what is wrong with it in the process environment."""
    return read()[1]


def raw(name: str) -> str:
    """What the environment holds for a variable, as it was written; empty where it is not set."""
    return os.environ.get(name, "")


def authorities() -> list[str]:
    """Files of certificate authorities that the environment names, by any of the names that programs have for them."""
    return list(dict.fromkeys(foreign.authorities(os.environ).values()))


def log_format() -> str:
    """`LOG_FORMAT` where it is right, else `text`: wrong settings have to be told in some format."""
    return "json" if os.environ.get("LOG_FORMAT", "").strip() == "json" else "text"


def no_color() -> bool:
    """Whether the user wants no colours anywhere (https://no-color.org)."""
    return bool(os.environ.get("NO_COLOR"))


def in_notebook() -> bool:
    """Whether this is a command in a notebook's cell. IPython runs it on a terminal of its own, where a bar would be
    control characters: what tells are the kernel's parent, and how kernels have programs behave (ipykernel/zmqshell.py,
    `init_environment`).
    """
    cell = {"TERM": "xterm-color", "PAGER": "cat", "GIT_PAGER": "cat"}
    return "JPY_PARENT_PID" in os.environ or all(os.environ.get(name) == value for name, value in cell.items())


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
    return f"{name}={told(given)}: {rule}" if given else f"{name}: {rule}"
