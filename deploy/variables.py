"""The job's variables as the user set them, known without importing the job (which would need its packages)."""

from __future__ import annotations

import ast
import difflib
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

SECRET_IN_URL = re.compile(r"://[^/\s,]*@|://[^\s,]*\?")  # user and password; a signed query
PATHS = ("DATA_DIR", "PRETRAINED_WEIGHTS", "INPUT", "GITHUB_STEP_SUMMARY", "TENSORBOARD_DIR")  # of this machine
JOB = Path(__file__).parent.parent / "job"


class WrongSetting(SystemExit):
    """Ends the program with a message for people and exit code 2."""

    def __init__(self, message: str) -> None:
        print(f"error: {message}", file=sys.stderr)
        super().__init__(2)


def names() -> tuple[str, ...]:
    """Every variable of the job, read out of the classes that define them."""
    trees = [ast.parse((JOB / "settings" / file).read_text()) for file in ("work.py", "variables.py")]
    tables = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    return tuple(
        node.target.id.upper()
        for table in tables
        for node in table.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    )


def given(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The job's variables that are set and not empty; `make NAME=value` puts them there."""
    return {name: environment[name] for name in names() if environment.get(name)}


def elsewhere(given: Mapping[str, str], where: str, instead: str, there: str = "//") -> dict[str, str]:
    """What of the variables has a meaning on another machine: no paths of this one, but those that begin as `there`, a
    folder of the other one. Ends the program for a password or signature, which does not belong into a file called
    `where`; `instead` says where it does.
    """
    secret = [name for name, value in given.items() if SECRET_IN_URL.search(value)]
    if secret:
        raise WrongSetting(f"{', '.join(secret)}: a password or signature would stand in {where}. {instead}")
    return {
        name: value for name, value in given.items() if name not in PATHS or "://" in value or value.startswith(there)
    }


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
