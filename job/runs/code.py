"""Which code a run's numbers come from: a state is continued by the code that it began with.

Three kinds of code, by what they can change:
- the model's file and those that it imports from this project: another network, another run;
- the engine (see ENGINE), as one number: other numbers from the same network. A release that changes this code but not
  one bit of its results keeps older runs useful: it puts the number that it replaces into EQUAL, when
  both were seen to compute the same bytes. A release that does change results empties EQUAL;
- the rest: reports, stores, messages. A difference is told and written into the results, and refuses nothing.

Comments, docstrings and line breaks of the first two do not count.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path

from job import models
from job.console.logs import event

ROOT = Path(models.__file__).parent.parent  # of the package `job`
# What is between the images and the trained weights; `models/__init__.py` has the recipes of models that name none.
ENGINE = ("data", "device", "engine", "models/__init__.py", "search", "seeds.py")
EQUAL: frozenset[str] = frozenset()  # earlier numbers of the engine's code with the very same results
LEFT_OUT = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
STATEMENT_BEGINS = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def of(model: str) -> dict[str, str]:
    """SHA-256 (hex) by file of what `model` is made of, and under `engine` and `rest` of all the other code."""
    files = {path: digest([path]) for path in model_files(Path(str(models.find(model).__file__)))}
    return {**{named(path): sha for path, sha in files.items()}, "engine": engine(), "rest": rest()}


def differences(was: Mapping[str, str] | None, model: str, *, finished: bool) -> list[str]:
    """What has changed since a run began that its numbers depend on. Differences that can do no harm are told alone:
    those in the rest, and of a finished run those in the engine, as nothing of it is computed any more.
    """
    now = of(model)
    if not was:
        return []
    files = sorted((was.keys() | now.keys()) - {"engine", "rest"})
    changed = [f"{name} has changed since this run began" for name in files if was.get(name) != now.get(name)]
    engine_changed = was.get("engine") not in {now["engine"], *EQUAL}
    if engine_changed and not finished:
        changed.append("this version of the job computes otherwise than the one that this run began with (engine)")
    elif not changed and (engine_changed or was.get("rest") != now["rest"]):
        event(
            "version",
            "this run is of another version of the job"
            + ("; FRESH=1 would compute it anew" if engine_changed else ", which computes the same"),
            level="WARNING" if engine_changed else "INFO",
        )
    return changed


def model_files(file: Path) -> list[Path]:
    """A model's file and what it imports from this project, directly or not."""
    found: list[Path] = []
    waiting = [file]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.append(path)
            waiting += [one for one in imported(path) if one.is_file() and one.name != "__init__.py"]
    return sorted(found)


def imported(path: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:  # from .other import thing
                package = [ROOT.name, *path.relative_to(ROOT).parent.parts]
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [base])])
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] == ROOT.name:
                yield ROOT.parent.joinpath(*name.split(".")).with_suffix(".py")


@functools.cache
def engine() -> str:
    return digest(sorted(path for place in ENGINE for path in python_files(ROOT / place)))


@functools.cache
def rest() -> str:
    """Of all other files but the models, which are each a matter of the runs that use them."""
    other = [
        path
        for path in python_files(ROOT)
        if path.relative_to(ROOT).parts[0] not in (*ENGINE, "models") and path.name != "COMMIT"
    ]
    sha = hashlib.sha256()
    for path in sorted(other):
        sha.update(f"{named(path)}\0".encode() + path.read_bytes() + b"\0")
    return sha.hexdigest()


def python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else list(place.rglob("*.py"))


def named(path: Path) -> str:
    return path.relative_to(ROOT.parent).as_posix() if path.is_relative_to(ROOT.parent) else path.name


def digest(paths: list[Path]) -> str:
    """SHA-256 (hex) over names and code."""
    sha = hashlib.sha256()
    for path in paths:
        sha.update(f"{named(path)}\0".encode())
        for token in tokens(path.read_text(encoding="utf-8")):
            sha.update(f"{token}\0".encode())
        sha.update(b"\0")
    return sha.hexdigest()


def tokens(source: str) -> Iterator[str]:
    """The words of Python source as they stand, without comments and docstrings, alike in all versions of Python."""
    lines = source.splitlines(keepends=True)
    before, held, depth, start = tokenize.NEWLINE, "", 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        name = tokenize.tok_name[token.type]
        if name == "FSTRING_START":  # since 3.12 an f-string comes in pieces: take it as it is written
            start = token.start if not depth else start
            depth += 1
        elif name == "FSTRING_END":
            depth -= 1
            if not depth:
                yield written(lines, start, token.end)
                before = tokenize.STRING
            continue
        if depth or token.type in LEFT_OUT:
            continue
        if token.type == tokenize.STRING and before in STATEMENT_BEGINS:
            held = token.string  # a docstring, where nothing but the line's end follows
        elif held and token.type == tokenize.NEWLINE:
            held = ""
        else:
            if held:
                yield held
                held = ""
            yield name if token.type in STATEMENT_BEGINS else token.string
        before = token.type


def written(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    """The source from `start` to `end`, each a line (from 1) and a column."""
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    return "".join([lines[first - 1][left:], *lines[first : last - 1], lines[last - 1][:right]])
