"""One list of variables: settings, --help, env.example and the README name the same ones with the same defaults."""

from __future__ import annotations

import re

import pytest

from job import settings
from tests.conftest import ROOT, Job


def documented() -> dict[str, str]:
    """Variable → default as the settings have it."""
    return {name.upper(): settings.default_of(name) for name in settings.variables()}


def test_env_example() -> None:
    lines = (ROOT / "env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given == documented()


def test_env_example_is_what_print_env_writes(job: Job) -> None:
    assert job("--print-env").stdout == (ROOT / "env.example").read_text()


def test_env_example_is_a_default_run(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = settings.load()
    for line in (ROOT / "env.example").read_text().splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    assert settings.load() == plain
    assert settings.load().run_name == plain.run_name


def test_help(job: Job) -> None:
    done = job("--help")
    assert done.returncode == 0
    given = dict(re.findall(r"^  ([A-Z_]+) = (.*?)  \(default\)$", done.stdout, flags=re.M))
    assert given == {name: default or "none" for name, default in documented().items()}
    assert len(re.findall(r"; default: ", done.stdout.replace("\n        ", " "))) == len(given)


def test_readme_table() -> None:
    rows = re.findall(r"^\| `([A-Z_]+)` \| (.*?) \| (.*?) \|$", (ROOT / "README.md").read_text(), flags=re.M)
    assert {name: default.strip("`") for name, default, _ in rows} == {
        name: default or "none" for name, default in documented().items()
    }
    meanings = {name: meaning for name, _, meaning in rows}
    assert meanings == {name.upper(): field.description for name, field in settings.variables().items()}
