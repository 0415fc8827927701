"""DESIGN's directions: who may import whom, who alone may touch what. Walks the imports as they stand in the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

JOB = ROOT / "job"
FILES = {file: ast.parse(file.read_text()) for file in sorted(JOB.rglob("*.py"))}
WORDS = "words"  # the modules at the root that everyone may use

TIERS = (  # from the ground up; rooms of one tier do not import each other
    {WORDS},
    {"console", "models"},
    {"settings", "storage", "device", "tracking"},
    {"data", "report"},
    {"engine", "runs"},
    {"search"},
    {"preflight"},
    {"modes"},
    {"__main__"},
)
TIER = {name: height for height, names in enumerate(TIERS) for name in names}
ROOT_WORDS = {"errors", "interrupt", "results", "seeds"}
ONLY_IMPORTERS = {
    "hyperopt": "search",
    "matplotlib": "report",
    "jinja2": "report",
    "boto3": "storage",
    "pydantic": "settings",
    "ray": "search",
    "mlflow": "tracking",
    "onnx": "modes",
}
UNSEEN = {"engine": {"settings", "storage", "interrupt"}}  # rooms below that a room still does not know


LINES, BODY, PARAMETERS = 250, 40, 5  # of a file, of a function without its docstring, of a function
# With as many parameters as the function of torch's that they stand in for.
AS_TORCH = {"job/search/stacked/draws.py: self_attention"}


def room(module: str) -> str:
    """The room of a module such as `job.data.folder`: `data`."""
    name = module.split(".")[1]
    return WORDS if name in ROOT_WORDS else name


def module_of(file: Path) -> str:
    """A file's dotted name; that of an `__init__.py` is its folder's."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {module_of(file): tree for file, tree in FILES.items()}


def imports(tree: ast.AST) -> Iterator[str]:
    """Every imported module as a dotted name: of `from job.data import folder, Split` both parts, folder and data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if name in MODULES else node.module


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_from_below(module: str) -> None:
    others = {name for name in imports(MODULES[module]) if name.startswith("job.")}
    if module == "job":
        assert not others
        return
    own = room(module)
    assert own != "models" or {room(name) for name in others} <= {"models"}, "models import nothing of the job"
    above = {name for name in others if room(name) != own and TIER[room(name)] >= TIER[own]}
    assert not above, f"{module} imports {', '.join(sorted(above))}"
    unseen = {name for name in others if name.split(".")[1] in UNSEEN.get(own, ())}
    assert not unseen, f"{module} imports {', '.join(sorted(unseen))}"


def test_within_a_room_imports_run_in_one_direction() -> None:
    TopologicalSorter(
        {module: {name for name in imports(tree) if name in MODULES} for module, tree in MODULES.items()}
    ).prepare()


@pytest.mark.parametrize(("library", "owner"), ONLY_IMPORTERS.items())
def test_a_library_has_one_importer(library: str, owner: str) -> None:
    importers = {
        room(module) for module, tree in MODULES.items() for name in imports(tree) if name.split(".")[0] == library
    }
    assert importers == {owner}


def test_the_environment_is_read_in_settings_alone() -> None:
    readers = {
        room(module)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.getenv")
    }
    assert readers == {"settings"}


def test_cuda_is_compared_in_device_alone() -> None:
    comparing = {
        room(module)
        for module, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(isinstance(side, ast.Constant) and side.value == "cuda" for side in (node.left, *node.comparators))
    }
    assert comparing == {"device"}


def test_the_house_is_seen_from_the_door() -> None:
    """Eighteen names stand at the root; a new one needs a place here and a reason."""
    names = {entry.stem for entry in JOB.iterdir() if entry.suffix == ".py" or list(entry.glob("*.py"))}
    assert names == (set(TIER) | ROOT_WORDS | {"__init__"}) - {WORDS}
    assert len(names - {"__init__"}) == 18


def test_no_file_is_long() -> None:
    """A page or two of one idea. Tests may be longer: they are lists."""
    files = {
        file
        for place in ("job", "deploy", "bench", "tests/helpers", "tests/container")
        for file in (ROOT / place).rglob("*.py")
    }
    assert len(files) > 150
    long = {
        str(file.relative_to(ROOT)): count for file in files if (count := len(file.read_text().splitlines())) > LINES
    }
    assert not long


def test_no_function_is_long_or_asks_for_much() -> None:
    found, large = set(), {}
    for file, tree in FILES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                name, first = f"{file.relative_to(ROOT)}: {node.name}", node.body[ast.get_docstring(node) is not None :]
                arguments = [
                    argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                ]
                size = (
                    node.end_lineno - first[0].lineno + 1 if first and node.end_lineno else 0,
                    len(arguments) - (arguments[:1] == ["self"]),
                )
                found.add(name)
                if size[0] > BODY or (size[1] > PARAMETERS and name not in AS_TORCH):
                    large[name] = size
    assert found >= AS_TORCH
    assert not large
