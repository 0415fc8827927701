"""A run without its reader: the files are what counts."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY, bare_environment

ONE = TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "2"}


def run(directory: Path, redirection: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m job` by a shell, with this behind it; the exit code is the job's own."""
    command = f'"{sys.executable}" -m job {redirection}'
    return subprocess.run(
        ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"],
        cwd=directory,
        env=bare_environment() | ONE | variables,
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    "redirection", ["| head -1", ">/dev/full 2>/dev/full", pytest.param(">&- 2>&- <&-", marks=pytest.mark.slow)]
)
def test_a_run_goes_on_without_its_reader(tmp_path: Path, redirection: str) -> None:
    done = run(tmp_path, redirection, PROGRESS="bar" if "2>" in redirection else "line")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    (finished,) = (tmp_path / "outputs").iterdir()
    assert json.loads((finished / "status.json").read_text())["phase"] == "finished"
    assert json.loads((finished / "status.json").read_text())["last_error"] is None
    for name, said in json.loads((finished / "manifest.json").read_text())["files"].items():
        assert (finished / name).stat().st_size == said["size"], "nothing that was printed went into a file"


def test_a_cut_off_env_file_is_no_success(tmp_path: Path) -> None:
    assert run(tmp_path, "--print-env >/dev/full").returncode == 75
    assert run(tmp_path, "--print-env | head -1").returncode == 0


def test_signs_that_the_encoding_lacks(tmp_path: Path) -> None:
    done = run(tmp_path, "", PYTHONIOENCODING="ascii", MODE="summary", OUTPUT="ausgänge")
    assert done.returncode == 78, done.stderr
    assert r"no finished run below ausg\xe4nge" in done.stdout
