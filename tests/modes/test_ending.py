"""What a kill in the last moments of a run leaves is set right by the next start, and by nobody who only looks."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from job.console.progress import Progress
from job.errors import NotGoodEnough
from job.interrupt import Stop
from job.modes import ending, run
from job.runs import checkpoint, manifest, owner, status, taking
from job.runs.owner import Owner, content
from job.runs.status import Status
from job.settings import Settings
from job.storage.local import LocalStore

DEAD_HERE = Owner("gone", "here", "", 1, "never")
ALIVE = Owner("other", "elsewhere", "another machine", 1, "1")


@pytest.fixture
def finished(one_run: Path, tmp_path: Path) -> Path:
    """A run that died between its manifest and its last status: `report` in its status, a state, its lock."""
    place = Path(shutil.copytree(one_run, tmp_path / "out" / "run"))
    said = manifest.read(LocalStore(place))
    assert said is not None
    with Status(LocalStore(place), Stop()) as told:
        told.tell("report")
    LocalStore(place).put(checkpoint.SLOTS[0], b"a state")
    (tmp_path / "summary.md").touch()
    return place


def settings_for(place: Path) -> Settings:
    return Settings(
        model="mlp", dataset="synthetic", data_limit=200, tune_percent=50, max_evals=2, tune_max_epochs=2, device="cpu",
        precision="fp32", learning_rate=0.001, epochs=2, output=str(place.parent), run_id="run",
        github_step_summary=place.parent.parent / "summary.md",
    )  # fmt: skip


def test_the_next_start_makes_up_for_what_was_missing(finished: Path) -> None:
    store = LocalStore(finished)
    mine = replace(DEAD_HERE, machine=owner.this_machine())
    store.put(taking.NAME, content(mine))
    files = {name: store.get(name) for name in store.list() if name not in (status.NAME, taking.NAME)}
    assert not ending.is_settled(store)
    run.run(settings_for(finished), Progress("off"), Stop())
    assert ending.is_settled(store)
    assert status.read(store)["phase"] == "finished"
    assert "### Run" in (finished.parent.parent / "summary.md").read_text()
    now = {name: store.get(name) for name in store.list() if name != status.NAME}
    assert now == {name: files[name] for name in files if name != checkpoint.SLOTS[0]}, "not one byte of the run"


@pytest.mark.parametrize("above", [-0.01, 0.01])
def test_an_accuracy_is_judged_by_its_lower_end_and_again_by_a_restart(one_run: Path, above: float) -> None:
    low = json.loads((one_run / "results.json").read_text())["evaluation"]["accuracy_interval_percent"][0]
    accuracy = json.loads((one_run / "results.json").read_text())["test"]["accuracy_percent"]
    wanted = settings_for(one_run).model_copy(update={"run_id": one_run.name, "min_accuracy": low + above})
    assert low + above < accuracy
    for _ in range(2):
        if above < 0:
            run.run(wanted, Progress("off"), Stop())
        else:
            with pytest.raises(NotGoodEnough, match="is finished and published, but") as told:
                run.run(wanted, Progress("off"), Stop())
            assert told.value.exit_code == 65
    assert wanted.run_name == one_run.name


def test_who_only_looks_removes_nothing(finished: Path) -> None:
    """The owner is alive, perhaps at a run with FRESH=1: its state and its status stay."""
    store, over = LocalStore(finished), threading.Event()
    store.put(taking.NAME, content(ALIVE))

    def beat() -> None:
        number = 0
        while not over.wait(0.2):
            number += 1
            store.put(taking.NAME, content(replace(ALIVE, beat=number)))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        run.run(settings_for(finished), Progress("off"), Stop())  # says that it is finished, which it is
    finally:
        over.set()
        thread.join()
    assert store.get(checkpoint.SLOTS[0]) == b"a state"
    assert status.read(store)["phase"] == "report"
    assert store.get(taking.NAME) is not None
