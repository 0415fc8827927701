"""The job's variables as the user set them, known without importing the job (which would need its packages)."""

from __future__ import annotations

import ast
import difflib
import os
import sys
from collections.abc import Mapping
from pathlib import Path

JOB = Path(__file__).parent.parent / "job"


class WrongSetting(SystemExit):
    """Ends the program with a message for people and exit code 2."""

    def __init__(self, message: str) -> None:
        print(f"error: {message}", file=sys.stderr)
        super().__init__(2)


def names() -> tuple[str, ...]:
    """Every variable of the job, read out of the class that defines them."""
    tree = ast.parse((JOB / "settings" / "variables.py").read_text())
    settings = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    return tuple(
        node.target.id.upper()
        for node in settings.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )


def given(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The job's variables that are set and not empty; `make NAME=value` puts them there."""
    return {name: environment[name] for name in names() if environment.get(name)}


def models() -> tuple[str, ...]:
    """The models there are: the files in job/models/."""
    return tuple(sorted(file.stem for file in (JOB / "models").glob("*.py") if file.stem != "__init__"))


def check_model(name: str) -> str:
    """The name, where there is such a model."""
    if name not in models():
        close = difflib.get_close_matches(name, models(), n=1, cutoff=0.5)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise WrongSetting(f"MODEL={name}: choose from {', '.join(models())}{hint}.")
    return name
