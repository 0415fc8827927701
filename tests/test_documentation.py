"""One list of variables: settings, --help, env.example and the README name the same ones with the same defaults."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from job import settings
from tests.conftest import ROOT, Job, bare_environment
from tests.helpers.messages import messages

PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md"), *ROOT.glob("deploy/**/*.md")})
OWN = ("job/", "tests/", "bench/", "deploy/", "docs/")


def documented() -> dict[str, str]:
    """Variable → default as the settings have it."""
    return {name.upper(): settings.default_of(name) for name in settings.variables()}


def test_env_example() -> None:
    lines = (ROOT / "env.example").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    assert given == documented()


def test_env_example_is_what_print_env_writes(job: Job) -> None:
    assert job("--print-env=all").stdout == (ROOT / "env.example").read_text()


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
    given = dict(re.findall(r"^  ([A-Z][A-Z0-9_]*) = (.*?)  \(default\)$", done.stdout, flags=re.M))
    assert given == {name: default or "none" for name, default in documented().items()}
    assert len(re.findall(r"; default: ", done.stdout.replace("\n        ", " "))) == len(given)


def test_readme_table() -> None:
    rows = re.findall(r"^\| `([A-Z][A-Z0-9_]*)` \| (.*?) \| (.*?) \|$", (ROOT / "README.md").read_text(), flags=re.M)
    assert {name: default.strip("`") for name, default, _ in rows} == {
        name: default or "none" for name, default in documented().items()
    }
    meanings = {name: meaning for name, _, meaning in rows}
    assert meanings == {name.upper(): field.description for name, field in settings.variables().items()}


def test_every_message_is_explained() -> None:
    """docs/troubleshooting.md has a row for each message in the code, with cause and remedy, and no row for others."""
    rows = re.findall(r"^\| `([^`]+)` \| (.*) \|$", (ROOT / "docs" / "troubleshooting.md").read_text(), flags=re.M)
    made = messages()
    assert len(made) > 70, "the walk finds them"
    missing = {text: place for text, place in made.items() if text not in dict(rows)}
    assert not missing, "give each a row in docs/troubleshooting.md"
    assert set(dict(rows)) <= set(made), "these are not said any more"
    for text, rest in rows:
        assert re.search(r"[a-z]{3}", rest), f"{text}: why, and what to do?"


RUN = re.compile(r"\b((?:cnn|mlp|vit|resnet18(?:_pretrained)?)-[0-9a-f]{8})\b(?!\.pth)")


def test_runs_that_the_docs_name_are_default_runs() -> None:
    """Whoever follows a page has such a run after `make run MODEL=…`."""
    named = {name for page in PAGES for name in RUN.findall(page.read_text())}
    assert named
    assert named == {settings.Settings(model=name.split("-")[0]).run_name for name in named}


def blocks(page: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "docs" / page).read_text(), flags=re.M | re.S)


@pytest.mark.slow
@pytest.mark.parametrize("script", blocks("configuration.md"), ids=lambda script: script.split("\n")[-2][:40])
def test_the_commands_run(script: str, tmp_path: Path) -> None:
    """Each block as a person would paste it, with `python` meaning this one."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = bare_environment() | {"PATH": path}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_variable_is_explained_in_use() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    assert [name for name in documented() if f"`{name}" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_is_there(page: Path) -> None:
    """Files and folders of this project in backticks, and where links lead; what a page adds itself is left out."""
    text = page.read_text()
    named = set(re.findall(r"`((?:[\w.-]+/)+(?:[\w-]+\.(?:py|md))?)`", text))
    named = {name for name in named if (ROOT / "job" / name.split("/")[0]).is_dir() or name.startswith(OWN)}
    added = set(re.findall(r"as `(\S+)`:$", text, flags=re.M))
    missing = [name for name in named - added if not any((place / name).exists() for place in (ROOT, ROOT / "job"))]
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    missing += [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_house_is_as_drawn() -> None:
    """Folders, files, modules' members that docs/architecture.md names exist in job/."""
    text = (ROOT / "docs/architecture.md").read_text()
    files = [file.relative_to(ROOT / "job") for file in (ROOT / "job").rglob("*.py")]
    code = {".".join(file.with_suffix("").parts).removesuffix(".__init__"): file for file in files}
    for name in re.findall(r"`([\w/]+\.py|\w+/)`", text):
        assert (ROOT / "job" / name).exists() or (ROOT / name).exists(), name
    members = re.findall(r"`([a-z]\w*(?:\.\w+)+)\b(?<!\.py)(?<!\.json)", text)
    assert len(members) > 5
    for member in members:
        module, _, last = member.rpartition(".")
        holders = [file for name, file in code.items() if name == module or name.endswith(f".{module}")]
        defined = rf"^(?:def|class) {last}\b|import .*\b{last}\b"
        assert any(re.search(defined, (ROOT / "job" / file).read_text(), flags=re.M) for file in holders), member
