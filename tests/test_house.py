"""DESIGN's directions: who may import whom, who alone may touch what. Walks the imports as they stand in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

JOB = Path(__file__).parent.parent / "job"
FILES = sorted(JOB.rglob("*.py"))

TIERS = (
    {"errors", "logs", "seeds"},
    {"results", "metrics", "interrupt", "storage", "data", "device", "models"},
    {"settings", "report", "checkpoint", "engine", "progress", "build", "provenance", "lock", "status", "tracking"},
    {"runners"},
    {"tune", "train", "publish", "classifier", "inputs"},
    {"finished", "preflight", "banner"},
    {"dataset"},
    {"pipeline", "check", "summary", "verify", "predict", "export"},
    {"__main__"},
)
TIER = {name: height for height, names in enumerate(TIERS) for name in names}
ONLY_IMPORTERS = {
    "hyperopt": "tune",
    "matplotlib": "report",
    "boto3": "storage",
    "pydantic": "settings",
    "ray": "runners",
    "mlflow": "tracking",
    "onnx": "export",
}


def house_name(file: Path) -> str:
    """The room a file belongs to: `job/data/folder.py` is part of `data`."""
    return file.relative_to(JOB).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[str]:
    """Every imported module as a dotted name; `from job import x` counts as `job.x`."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "job":
                yield from (f"job.{alias.name}" for alias in node.names)
            else:
                yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(JOB)))
def test_imports_only_from_below(file: Path) -> None:
    room = house_name(file)
    if room == "__init__":
        assert not [name for name in imports(file) if name.startswith("job")]
        return
    for name in imports(file):
        if not name.startswith("job."):
            continue
        other = name.split(".")[1]
        if other == room:
            continue
        assert TIER[other] < TIER[room], f"{room} imports {other}"
        assert room != "models", "models import nothing of the job"


@pytest.mark.parametrize(("library", "room"), ONLY_IMPORTERS.items())
def test_a_library_has_one_importer(library: str, room: str) -> None:
    importers = {house_name(f) for f in FILES if any(name.split(".")[0].startswith(library) for name in imports(f))}
    assert importers == {room}


def attributes(tree: ast.AST, owner: str, name: str) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == name
        and isinstance(node.value, ast.Name)
        and node.value.id == owner
        for node in ast.walk(tree)
    )


def test_the_environment_is_read_in_settings_alone() -> None:
    readers = {
        house_name(file)
        for file in FILES
        if attributes(ast.parse(file.read_text()), "os", "environ")
        or attributes(ast.parse(file.read_text()), "os", "getenv")
    }
    assert readers == {"settings"}


def test_cuda_is_compared_in_device_alone() -> None:
    def compares(file: Path) -> bool:
        return any(
            isinstance(node, ast.Compare)
            and any(isinstance(side, ast.Constant) and side.value == "cuda" for side in (node.left, *node.comparators))
            for node in ast.walk(ast.parse(file.read_text()))
        )

    assert {house_name(file) for file in FILES if compares(file)} == {"device"}


def test_every_room_has_a_place() -> None:
    assert {house_name(file) for file in FILES} - {"__init__"} <= set(TIER)
