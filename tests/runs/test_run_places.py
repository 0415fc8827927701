"""Whole jobs with their images at each place, killed and gone on at another: the same files."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import TINY, bare_environment
from tests.helpers import photographs
from tests.helpers.chaos import comparable, directory_files

PLACED = """
import sys
from dataclasses import replace
from job.data import places
from job.search import batched
real, name = places.choose, sys.argv[1]
places.choose = lambda images, device, *, kept: replace(real(images, device, kept=kept), name=name)
if "batched" in sys.argv:
    batched.pays = lambda build, compute: True
    batched.fitting = lambda build, compute, batch_size: 2
from job.__main__ import main
if __name__ == "__main__":
    sys.exit(main([]))
"""
VARIABLES = {name: value for name, value in TINY.items() if name != "DATA_LIMIT"} | {
    "DATASET": "folder",
    "BATCH_SIZE": "16",
    "RUN_ID": "run",
    "LOG_FORMAT": "json",
    "TUNE_MAX_EPOCHS": "3",
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photographs.drawn(tmp_path_factory.mktemp("drawn") / "set", 120, (64, 48))


def start(directory: Path, images: Path, place: str, *how: str, **variables: str) -> subprocess.Popen[str]:
    script = directory / "placed.py"
    script.write_text(PLACED)
    return subprocess.Popen(
        [sys.executable, str(script), place, *how],
        cwd=directory,
        env=bare_environment() | VARIABLES | {"DATA_DIR": str(images), "OUTPUT": f"out-{place}"} | variables,
        stdout=subprocess.PIPE,
        text=True,
    )


def files(directory: Path, place: str) -> dict[str, bytes]:
    return dict(comparable(directory_files(directory / f"out-{place}" / "run")))


WAYS: list[tuple[str, tuple[str, ...], dict[str, str]]] = [
    ("mlp", (), {}),
    ("cnn", (), {"RECIPE": "strong", "EPOCHS": "2", "TUNE_MAX_EPOCHS": "2"}),
    ("mlp", (), {"DATA_LIMIT": "60", "CLASS_WEIGHTS": "balanced"}),
    ("mlp", ("batched",), {}),
    ("mlp", (), {"WORKERS": "2"}),
    ("cnn", (), {"SEARCH": "halving"}),
    ("resnet18", (), {"MAX_EVALS": "1", "TUNE_MAX_EPOCHS": "1"}),
]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "how", "variables"), WAYS)
def test_the_same_files_at_every_place(
    model: str, how: tuple[str, ...], variables: dict[str, str], drawn: Path, tmp_path: Path
) -> None:
    named = variables | {"MODEL": model}
    for place in ("device", "host", "disk"):
        said, _ = start(tmp_path, drawn, place, *how, **named).communicate(timeout=250)
        assert f'"place": "{place}"' in said
    first = files(tmp_path, "device")
    assert "weights.pt" in first
    assert files(tmp_path, "host") == first
    assert files(tmp_path, "disk") == first
    verified = start(tmp_path, drawn, "disk", MODE="verify", **named)
    said, _ = verified.communicate(timeout=250)
    assert verified.returncode == 0, said
    assert "equal to the last bit" in said


def until(process: subprocess.Popen[str], wanted: str) -> Iterator[str]:
    assert process.stdout is not None
    for line in process.stdout:
        yield line
        if wanted in line:
            return


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("batched",)])
def test_killed_on_the_disk_it_goes_on_anywhere_to_the_same_files(
    how: tuple[str, ...], drawn: Path, tmp_path: Path
) -> None:
    alone = start(tmp_path, drawn, "device", *how)
    alone.communicate(timeout=250)
    process = start(tmp_path, drawn, "disk", *how)
    for _ in until(process, '"event": "epoch"'):
        pass
    process.kill()
    process.communicate(timeout=30)
    process = start(tmp_path, drawn, "host", *how, OUTPUT="out-disk")
    for _ in until(process, '"event": "train"'):
        pass
    process.kill()
    process.communicate(timeout=30)
    said, _ = start(tmp_path, drawn, "disk", *how).communicate(timeout=250)
    assert '"event": "resume"' in said
    assert files(tmp_path, "disk") == files(tmp_path, "device")
