"""The code belongs to the run: what changes its numbers refuses it, what does not is told."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from job.console import logs
from job.runs import code
from tests.conftest import ROOT, TINY, Job, bare_environment, start_job


def as_tokens(source: str) -> list[str]:
    return list(code.tokens(source))


PLAIN = 'def f(x):\n    return f"a{x}" "b"\n'


@pytest.mark.parametrize(
    "same",
    [
        'def f(x):\n    """Says what."""\n    # and why\n    return f"a{x}" "b"  # so\n',
        '"""Of the file."""\n\n\ndef f(\n    x\n):\n\n    return f"a{x}" "b"\n',
    ],
)
def test_what_is_only_said_does_not_count(same: str) -> None:
    assert as_tokens(same) == as_tokens(PLAIN)


@pytest.mark.parametrize(
    "other",
    [
        'def f(x):\n    return f"a{x}" "c"\n',
        'def f(x):\n    return f"b{x}" "b"\n',
        'def f(x):\n    return f"a{x + 1}" "b"\n',
        'def f(y):\n    return f"a{y}" "b"\n',
        'if True:\n    def f(x):\n        return f"a{x}" "b"\n',
        PLAIN + '"""not the first word of anything""".strip()\n',
    ],
)
def test_what_is_done_counts(other: str) -> None:
    assert as_tokens(other) != as_tokens(PLAIN)


def test_a_model_is_its_file_and_what_that_imports() -> None:
    assert set(code.of("mlp")) == {"job/models/mlp.py", "engine", "rest"}
    assert set(code.of("resnet18_pretrained")) >= {"job/models/resnet18.py", "job/models/resnet18_pretrained.py"}
    assert code.of("mlp")["engine"] == code.of("vit")["engine"]


def test_imports_are_followed_by_whatever_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = tmp_path / "job" / "models"
    models.mkdir(parents=True)
    (models / "a.py").write_text("import torch\nfrom job.models.b import x\nfrom . import c\nfrom .d import y\n")
    for name in "bcde":
        (models / f"{name}.py").write_text("import job.models.e\n" if name == "b" else "x = y = 1\n")
    monkeypatch.setattr(code, "ROOT", tmp_path / "job")
    assert [file.stem for file in code.model_files(models / "a.py")] == ["a", "b", "c", "d", "e"]


def test_differences_by_what_they_can_change(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = code.of("mlp")
    logs.LOGGER.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logs.LOGGER.name)

    def told(was: dict[str, str] | None, finished: bool) -> tuple[list[str], str]:
        caplog.clear()
        return code.differences(was, "mlp", finished=finished), " ".join(caplog.messages)

    try:
        assert told(now, False) == ([], "")
        assert told(None, False) == ([], ""), "a run of before code was noted goes on"
        changed = "job/models/mlp.py has changed since this run began"
        assert told(now | {"job/models/mlp.py": "0"}, False)[0] == [changed]
        assert told(now | {"job/models/mlp.py": "0"}, True)[0] == [changed]
        (line,), _ = told(now | {"engine": "0"}, False)
        assert "computes otherwise" in line
        refused, said = told(now | {"engine": "0"}, True)
        assert not refused
        assert "FRESH=1 would compute it anew" in said
        refused, said = told(now | {"rest": "0"}, False)
        assert not refused
        assert "computes the same" in said
        monkeypatch.setattr(code, "EQUAL", frozenset({"0"}))
        assert told(now | {"engine": "0"}, False)[0] == [], "a release says which earlier code gives the same results"
    finally:
        logs.LOGGER.removeHandler(caplog.handler)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_changed_model_is_another_run(job: Job, tmp_path: Path) -> None:
    """The workflow of docs/adding-a-model.md: the model's file is changed between two attempts of one run."""
    shutil.copytree(ROOT / "job", tmp_path / "job")
    here = bare_environment() | {"PYTHONPATH": str(tmp_path)}
    given = TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "100000", "RUN_ID": "run"} | here
    process = start_job(tmp_path, given)
    while not list(tmp_path.glob("outputs/run/checkpoint/[01]")):
        assert process.poll() is None
    process.kill()
    process.wait()
    file = tmp_path / "job" / "models" / "mlp.py"
    file.write_text(file.read_text().replace("256", "128").replace("1_707_274", "1_640_330"))
    done = job(**given, timeout=600)
    assert done.returncode == 78, done.stdout
    assert "job/models/mlp.py has changed since this run began" in done.stdout
    assert "FRESH=1" in done.stdout
    finished = job(**(given | {"EPOCHS": "1", "FRESH": "1"}), timeout=600)
    assert finished.returncode == 0, finished.stdout
    file.write_text(file.read_text().replace("128", "64"))
    again = job(**(given | {"EPOCHS": "1"}), timeout=600)
    assert again.returncode == 78, again.stdout
    assert "job/models/mlp.py has changed" in again.stdout
