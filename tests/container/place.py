"""A run in a container as strict as the image promises to stand, and what it leaves."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from pathlib import Path
from typing import Any

from tests.container.shell import IMAGE, sh

# As strict as the image promises to stand: any user, nothing writable but three folders, no network, no privileges.
STRICT = (
    *("--user", "12345", "--read-only", "--network", "none", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp:rw,mode=1777"),
)
# One thread: a machine shared with others lets two of them wait for each other.
SMALL = {"DATASET": "synthetic", "DATA_LIMIT": "3000", "MAX_EVALS": "4", "TUNE_MAX_EPOCHS": "6", "OMP_NUM_THREADS": "1"}
TINY = {"DATASET": "synthetic", "DATA_LIMIT": "200", "LEARNING_RATE": "0.001", "EPOCHS": "1", "DEVICE": "cpu"}
FILES = {"results.txt", "results.json", "training_curves.png", "weights.pt", "history.csv", "trials.csv", "tuning.png"}
# What may differ between a run in one go and one in several: its clock, and what tells of its attempts.
OF_THE_ATTEMPT = re.compile(r"second|duration|time|date|started|finished|resume|attempt|interrupt|host|reason")


class Place:
    """Folders for a container's /outputs and /data, writable for everyone."""

    def __init__(self, work: Path, name: str) -> None:
        self.outputs, self.data = work / name / "outputs", work / name / "data"
        for folder in (self.outputs, self.data):
            folder.mkdir(parents=True)
            folder.chmod(0o777)

    def options(self, settings: dict[str, str]) -> list[str]:
        values = [f"--env={name}={value}" for name, value in settings.items()]
        return ["-v", f"{self.outputs}:/outputs", "-v", f"{self.data}:/data", *values]

    def run(self, settings: dict[str, str], *further: str, code: int = 0) -> str:
        """What a container with these settings prints. Its exit code must be `code`."""
        done = sh("podman", "run", "--rm", *STRICT, *self.options(settings), *further, IMAGE, check=False)
        said = f"{done.stdout[-3000:]}{done.stderr[-2000:]}"
        assert done.returncode == code, f"exit {done.returncode} instead of {code}:\n{said}"
        return done.stdout

    def finished_run(self) -> Path:
        (manifest,) = self.outputs.glob("*/manifest.json")
        return manifest.parent


def outputs_are_whole(folder: Path, names: set[str] = FILES) -> str:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert names <= set(manifest["files"]), set(manifest["files"])
    for name, about in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert len(content) == about["size"], name
        assert hashlib.sha256(content).hexdigest() == about["sha256"], name
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG\r\n\x1a\n"), name
    results = json.loads((folder / "results.json").read_text())
    text = (folder / "results.txt").read_text()
    assert f"Test accuracy: {results['test']['accuracy_percent']:.2f}%" in text, text
    return f"test accuracy {results['test']['accuracy_percent']:.2f} %"


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if not OF_THE_ATTEMPT.search(key)}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def comparable_rows(file: Path) -> list[dict[str, str]]:
    return [comparable(row) for row in csv.DictReader(file.read_text().splitlines())]
