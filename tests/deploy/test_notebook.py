"""The job from a notebook's cell, as deploy/kaggle/README.md has it: a real kernel, a real `!make demo`.

`make test-notebook` runs it, in a virtual environment of its own.
"""

from __future__ import annotations

import base64
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed: make test-notebook")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: make test-notebook")

SECTION = (ROOT / "deploy/kaggle/README.md").read_text().partition("## From a notebook's cell")[2]
TRIALS, EPOCH = 3, r"epoch=\d+ train_loss=\S+ train_accuracy=\S+ "


def checkout(place: Path) -> None:
    """What `make demo` needs, with the packages that are here already."""
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, place)
    shutil.copytree(ROOT / "job", place / "job")
    (place / ".venv").symlink_to(ROOT / ".venv")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_section_as_it_stands(tmp_path: Path) -> None:
    checkout(tmp_path)
    cells = re.findall(r"```(?:python)?\n(.*?)```", SECTION, re.DOTALL)
    assert cells[0] == "!make demo\n"
    assert len(cells) == 2
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(notebook, timeout=800, resources={"metadata": {"path": str(tmp_path)}})
    with client.setup_kernel():
        client.execute_cell(notebook.cells[0], 0)
        (run,) = (tmp_path / "outputs/demo").glob("*/manifest.json")
        notebook.cells[1].source = cells[1].replace("RUN", run.parent.name)
        client.execute_cell(notebook.cells[1], 1)
    said = "".join(output.text for output in notebook.cells[0].outputs)
    assert {output.output_type for output in notebook.cells[0].outputs} == {"stream"}
    said = said.replace("\r\n", "\n")  # a terminal's line ends
    assert not re.search(r"[^\n\t -\x7e\u00a0-\uffff]", said), "control characters"
    assert "Traceback" not in said
    lines = said.splitlines()
    for trial in range(1, TRIALS + 1):
        assert any(re.match(rf"tune trial={trial}/{TRIALS} \S+ {EPOCH}", line) for line in lines), said
    assert any(re.match(rf"train {EPOCH}", line) for line in lines), said
    assert f"finished: the files are in outputs/demo/{run.parent.name}" in lines, said
    pictures = [output.data["image/png"] for output in notebook.cells[1].outputs if "data" in output]
    assert [base64.b64decode(picture)[:4] for picture in pictures] == [b"\x89PNG"] * 2
