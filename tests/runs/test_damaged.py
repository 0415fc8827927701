"""Damaged files of a run: each is one message and 78 in every mode, and FRESH=1 mends it."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from job.errors import Fault, TemporaryFault
from job.interrupt import Stop
from job.modes import ending, summary
from job.preflight import store as preflight_store
from job.runs import checkpoint, finished, lock, manifest, publish, shapes, status, taking
from job.runs.finished import Finished
from job.runs.owner import Timing, owner
from job.runs.status import Status
from job.settings import Settings
from job.storage.local import LocalStore
from tests.conftest import TINY, Job, replace_file

WHOLE = [b"", b"[]", b"{}", b"null", b"3", b"{", b"\xff\xfe", b"[" * 100_000, b'{"files": {"../../x": {}}}']
VALUES: list[Any] = [None, "x", 3, 2.5, True, [], {}, [None], {"x": None}]


@pytest.fixture
def run(one_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, called `run`."""
    return Path(shutil.copytree(one_run, tmp_path / "out" / "run"))


def settings_for(run: Path) -> Settings:
    return Settings(output=str(run.parent), run_id=run.name, model="mlp", dataset="synthetic", data_limit=200)


def broken(content: bytes) -> Iterator[bytes]:
    """Cut at every length (of a long file at some), each field dropped, each of another type."""
    yield from WHOLE
    yield from (content[:length] for length in range(0, len(content), max(1, len(content) // 60)))
    value = json.loads(content)
    for path in places(value):
        if sum(isinstance(step, int) for step in path) and path[-1] not in (0, "*"):
            continue  # of a list one item is enough
        yield from (changed for _, changed in spoiled(value, path))


def spoiled(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[Any, bytes]]:
    """The field at `path` dropped, then as each other type: what was done, and the whole as JSON."""
    for other in ("drop", *VALUES):
        changed = copy.deepcopy(value)
        inner = changed
        for step in path[:-1]:
            inner = inner[step]
        if other == "drop":
            del inner[path[-1]]
        else:
            inner[path[-1]] = other
        yield other, json.dumps(changed).encode()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The ways to all values down to the third level, lists by their first item."""
    if len(path) > 3:
        return
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def told(call: Callable[[], object]) -> Fault | None:
    """What `call` says; anything but a fault of 78 with a way out fails the test."""
    try:
        call()
    except TemporaryFault as fault:
        pytest.fail(f"a retry mends no damage: {fault}")
    except Fault as fault:
        said = fault
    else:
        return None
    assert said.remedy
    return said


def test_a_damaged_manifest_is_told_by_every_reader(run: Path) -> None:
    settings, whole = settings_for(run), (run / manifest.NAME).read_bytes()
    store = LocalStore(run)
    readers: list[Callable[[], object]] = [
        lambda: publish.finished_already(store, settings, lambda: "", lambda recorded: ""),
        lambda: finished.find(settings),
        lambda: preflight_store.standing(settings, lambda: None),
        lambda: publish.add(store, {"model.onnx": b""}, lambda: None),
        lambda: summary.collect(LocalStore(run.parent), Stop()),
    ]
    counted = 0
    for content in broken(whole):
        (run / manifest.NAME).write_bytes(content)
        for reader in readers[:3]:
            fault = told(reader)
            counted += fault is not None and "is damaged" in fault.what
        told(readers[4])
    assert counted > 500
    for content in WHOLE:
        (run / manifest.NAME).write_bytes(content)
        for reader in readers[:4]:
            fault = told(reader)
            assert fault is not None
            assert fault.remedy == manifest.MEND


def test_fresh_mends_whatever_lies_there(run: Path, one_run: Path) -> None:
    """Also what no manifest names: an old model.onnx beside new weights."""
    for content in WHOLE:
        shutil.copytree(one_run, run, dirs_exist_ok=True)
        (run / manifest.NAME).write_bytes(content)
        (run / "model.onnx").write_bytes(b"of an earlier run")
        (run / "checkpoint").mkdir(exist_ok=True)
        (run / "checkpoint" / "0").write_bytes(b"half a state")
        publish.remove(LocalStore(run))
        assert list(run.rglob("*")) == []


@pytest.mark.parametrize("name", [finished.RESULTS, finished.MODEL])
def test_damaged_results_are_told_by_every_reader(run: Path, name: str) -> None:
    """Vouched for by a manifest, so that nothing but the reader stands between them and a traceback."""
    store, whole = LocalStore(run), (run / name).read_bytes()
    reader = finished.results if name == finished.RESULTS else finished.model
    for content in broken(whole):
        replace_file(run, name, content)
        said = manifest.read(store)
        assert said is not None
        told(lambda said=said: reader(Finished("run", store, said)))  # type: ignore[misc]
        if name == finished.RESULTS:
            told(lambda: summary.collect(LocalStore(run.parent), Stop()))


def test_a_damaged_status_is_written_anew(run: Path) -> None:
    store, settings = LocalStore(run), settings_for(run)
    (run / manifest.NAME).unlink()
    for content in broken((run / status.NAME).read_bytes()):
        (run / status.NAME).write_bytes(content)
        told(lambda: preflight_store.standing(settings, lambda: None))
        ending.is_settled(store)
    for content in WHOLE:
        (run / status.NAME).write_bytes(content)
        with Status(store, Stop()) as anew:
            anew.tell("train")
        assert (status.read(store)["attempt"], status.read(store)["phase"]) == (1, "train")


def test_a_damaged_lock_belongs_to_nobody(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with lock.held(store, Stop(), Timing(beat=10)):
        whole = (tmp_path / taking.NAME).read_bytes()
    for content in broken(whole):
        assert isinstance(owner(content).process, int)
    store.put(taking.NAME, b"null")
    with lock.held(store, Stop(), Timing(beat=0.1, patience=0.3)):
        pass


def test_a_damaged_state_is_told(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for content in WHOLE:
        store.put(checkpoint.SLOTS[0], content)
        fault = told(lambda: checkpoint.load(store))
        assert fault is not None
        assert "FRESH=1" in fault.remedy


def test_what_a_run_leaves_is_as_its_readers_expect(run: Path) -> None:
    """Nothing of it is refused: the shapes are those of this version's own files."""
    for name, shape in ((manifest.NAME, shapes.MANIFEST), (status.NAME, shapes.STATUS)):
        shapes.parsed((run / name).read_bytes(), shape)
    assert told(lambda: finished.results(finished.find(settings_for(run)))) is None
    assert told(lambda: finished.model(finished.find(settings_for(run)))) is None


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize("mode", ["run", "check", "predict", "verify", "summary"])
def test_a_damaged_run_in_every_mode(tiny: Job, run: Path, mode: str) -> None:
    """As a whole job: 78, no traceback; of a summary the other runs remain."""
    (run / manifest.NAME).write_bytes(b"null")
    place = {"OUTPUT": str(run.parent), "RUN_ID": "run", "INPUT": str(run), "MODE": mode}
    done = tiny(**(TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "2"} | place))
    assert done.returncode == 78, done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "is damaged" in done.stdout
