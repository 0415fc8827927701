"""docs/adding-a-model.md and docs/adding-a-data-set.md: what stands there is done, in a copy of the job."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import ROOT, bare_environment

# `make` as documented, with this very environment in the place of one that it would set up.
SHELL = f"""set -eo pipefail
make() {{ command make -s -o {sys.prefix}/.ready VENV={sys.prefix} "$@"; }}
python() {{ {sys.executable} "$@"; }}
"""


def blocks(page: str, language: str) -> list[str]:
    """The page's blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", (ROOT / "docs" / page).read_text(), flags=re.M | re.S)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project without what is not needed to run and to test the models."""
    for folder in ("job", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def run(script: str, home: Path) -> str:
    """What the script says. It must end well."""
    environment = bare_environment() | {"PYTHONPATH": str(home), "DEVICE": "cpu"}
    done = subprocess.run(
        ["bash", "-c", SHELL + script], cwd=home, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, f"{script}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_a_sixth_model(copy: Path) -> None:
    (file,) = blocks("adding-a-model.md", "python")
    (copy / "job" / "models" / "mixer.py").write_text(file)
    for check in (("check",), ("format", "--check")):
        done = subprocess.run([sys.executable, "-m", "ruff", *check, "job/models/mixer.py"], cwd=copy, text=True)
        assert done.returncode == 0
    running, handing_in = blocks("adding-a-model.md", "sh")
    said = run(running, copy)
    assert "cnn, mixer, mlp" in said
    assert "equal to the last bit" in said
    about = json.loads((copy / "outputs" / "first" / "model.json").read_text())
    assert about["model"] == "mixer"

    assert "-q tests/models/test_models.py" in handing_in
    said = run(
        handing_in.replace("tests/models/test_models.py", "tests/models/test_models.py -k 'mixer or specification'"),
        copy,
    )
    assert "6 passed" in said, "two shapes with gradients, recipe, count, overfitting, those of the specification"
    assert "cnn, mixer, mlp" in (copy / "env.example").read_text()


@pytest.mark.slow
def test_an_own_data_set(copy: Path) -> None:
    """Photos in three colours and a table of labels: the job learns them and says so of the photos again."""
    rng = np.random.default_rng(0)
    (copy / "photos").mkdir()
    (copy / "birds").mkdir()
    lines = ["file,label"]
    for label, name in enumerate(("blackbird", "magpie", "robin")):
        for number in range(60):
            pixels = rng.integers(0, 90, (48, 64, 3))
            pixels[..., label] += 120
            Image.fromarray(pixels.astype(np.uint8)).save(copy / "photos" / f"{name}-{number}.jpg")
            lines.append(f"{name}-{number}.jpg,{name}")
    (copy / "birds" / "labels.csv").write_text("\n".join(lines) + "\n")
    shutil.copytree(copy / "photos", copy / "birds" / "photos")
    (running,) = blocks("adding-a-data-set.md", "sh")
    said = run(running, copy)
    assert "equal to the last bit" in said
    results = json.loads((copy / "outputs" / "birds" / "results.json").read_text())
    assert results["data"]["classes"] == ["blackbird", "magpie", "robin"]
    assert results["test"]["accuracy_percent"] == 100
    assert (copy / "birds" / ".birds-32x32.images").is_file(), "the cache is where the page says"
    table = (copy / "outputs" / "predictions" / "birds" / "predictions.csv").read_text().splitlines()[1:]
    assert len(table) == 180
    right = sum(name.split("-")[0] == answer for name, answer, *_ in csv.reader(table))
    assert right >= 178
