"""Every file of a finished run damaged in every way, in every mode that reads it: one message, never a traceback."""

from __future__ import annotations

import json
import shutil
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from job.console.progress import Progress
from job.errors import Fault, TemporaryFault
from job.interrupt import Stop
from job.modes import check, export, predict, summary, verify
from job.modes.export_formats import FORMATS, Written
from job.runs import finished, manifest, status
from job.settings import Settings
from tests.conftest import TINY, made_once, replace_file, run_here
from tests.helpers.folders import pictures
from tests.runs.test_damaged import WHOLE, places, spoiled

LENGTHS = 20  # at which a file is cut off
MODES = {"predict": predict.run, "verify": verify.run, "export": export.run, "summary": summary.run, "check": check.run}
UNVOUCHED = (manifest.NAME, status.NAME)
UNDRAWN = {"svg": '<svg viewBox="0 0 1 1"></svg>', "png": b""}
MUCH, FEWER = 800, 7  # `make test` takes one damage in so many, `make test-slow` one in fewer

Damage = tuple[str, str, bytes]  # the file, what was done to it, and its content then


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run with trials. Copy it before you change anything."""

    def make(home: Path) -> None:
        assert run_here(home, **TINY, RUN_ID="run").returncode == 0

    return made_once(tmp_path_factory, "searched", make) / "outputs" / "run"


@pytest.fixture
def run(searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, read without what takes long and reads nothing: ONNX, drawings."""
    quick = replace(FORMATS["onnx"], packages=(), write=lambda *_: Written(b"onnx", {}), load=lambda *_: None)
    monkeypatch.setitem(FORMATS, "onnx", quick)
    monkeypatch.setattr(export, "compare", lambda *_: export.Comparison(1, 0.0, 1.0, 1, 1, 0, 0))
    monkeypatch.setattr(Figure, "savefig", lambda _, out, format, **given: out.write(UNDRAWN[format]))
    return Path(shutil.copytree(searched, tmp_path / "out" / "run"))


def damages(run: Path) -> Iterator[Damage]:
    """Each file cut off at some lengths; of JSON each field dropped and of each other type; of CSV without a column."""
    for file in sorted(file for file in run.rglob("*") if file.is_file()):
        name, content = file.relative_to(run).as_posix(), file.read_bytes()
        for number in range(LENGTHS):
            length = len(content) * number // LENGTHS
            yield name, f"cut to {length}", content[:length]
        yield name, "last byte gone", content[:-1]
        if name.endswith(".json"):
            yield from ((name, repr(whole[:20]), whole) for whole in WHOLE)
            yield from fields(name, content)
        if name.endswith(".csv"):
            lines = content.decode().splitlines()
            yield name, "a column gone", "\n".join(line.partition(",")[2] for line in lines).encode()
            yield name, "no number", content.replace(b"0", b"x")


def fields(name: str, content: bytes) -> Iterator[Damage]:
    value = json.loads(content)
    for path in places(value):
        for other, changed in spoiled(value, path):
            yield name, f"{'.'.join(map(str, path))}: {other!r}", changed


def damaged(run: Path, damage: Damage, vouched: bool) -> None:
    name, _, content = damage
    if vouched and name not in UNVOUCHED:
        replace_file(run, name, content)
    else:
        (run / name).write_bytes(content)


def settings_for(run: Path, mode: str, images: Path) -> Settings:
    given = {name.lower(): value for name, value in TINY.items()}
    return Settings(**given, output=str(run.parent), run_id="run", mode=mode, input=str(images))  # type: ignore[arg-type]


def told(settings: Settings) -> str:
    """What was wrong with what the mode says: nothing where it is done, or tells a fault that no waiting mends."""
    try:
        MODES[settings.mode](settings, Progress("off"), Stop())
    except TemporaryFault as fault:
        return f"75: {fault.what}"
    except Fault as fault:
        return "" if fault.remedy else f"no remedy: {fault.what}"
    except Exception as error:
        return f"{type(error).__name__}: {error} ({traceback.extract_tb(error.__traceback__)[-1].name})"
    return ""


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize("one_in", [MUCH, pytest.param(FEWER, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize("mode", MODES)
def test_a_damaged_file_is_told(run: Path, searched: Path, tmp_path: Path, mode: str, one_in: int) -> None:
    """Beside a manifest that says otherwise, and vouched for by it, so that the mode has to read it."""
    settings = settings_for(run, mode, pictures(tmp_path / "in", "a.png"))
    wrong, counted = [], 0
    for damage in list(damages(searched))[list(MODES).index(mode) :: one_in]:
        for vouched in (False, True):
            damaged(run, damage, vouched)
            said, counted = told(settings), counted + 1
            if said:
                wrong.append(f"{damage[0]}, {damage[1]}{' (vouched for)' * vouched}: {said}")
        for name in {damage[0], manifest.NAME}:
            shutil.copy(searched / name, run / name)
    print(f"{mode}: {counted} damages")
    assert not wrong, f"{len(wrong)} of {counted}:\n" + "\n".join(wrong[:40])


@pytest.mark.parametrize("mode", ["predict", "export"])
def test_empty_weights_are_told(run: Path, tmp_path: Path, mode: str) -> None:
    """torch has no words for them."""
    replace_file(run, finished.WEIGHTS, b"")
    settings = settings_for(run, mode, pictures(tmp_path / "in", "a.png"))
    with pytest.raises(Fault, match=r"does not fit job/models/mlp\.py: EOFError"):
        MODES[mode](settings, Progress("off"), Stop())


def test_a_model_that_is_none_is_told(run: Path, tmp_path: Path) -> None:
    results = json.loads((run / finished.RESULTS).read_text())
    results["settings"]["MODEL"]["value"] = None
    replace_file(run, finished.RESULTS, json.dumps(results).encode())
    with pytest.raises(Fault, match="no model is called None"):
        verify.run(settings_for(run, "verify", tmp_path), Progress("off"), Stop())
