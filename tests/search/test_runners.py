"""Whoever runs the trials, the records are the same: real worker processes, killed in the middle of their work."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from torch import nn

from job import device
from job.device.memory import OUT_OF_MEMORY
from job.engine.learner import Learner, snapshot
from job.errors import Interrupted
from job.results import Epoch, Paused, Score, Trial
from job.runs.checkpoint import Identity, Saved, decode, encode
from job.runs.owner import start_time
from job.runs.standing import Standing
from job.search import runners, tune
from job.search.processes import DEATHS, processes
from job.search.runners import Plan
from job.search.trial import Callbacks, Order, Setup
from job.settings import Settings
from tests.conftest import TINY, start_job, tells
from tests.helpers import small_models
from tests.helpers.chaos import comparable, directory_files
from tests.helpers.odd_models import broken, hungry, stubborn
from tests.search.test_tune import some_images


def settings(**values: object) -> Settings:
    small = {"model": "mlp", "dataset": "synthetic", "tune_max_epochs": 2, "batch_size": 32, "device": "cpu"}
    return Settings(**(small | values))  # type: ignore[arg-type]


def setup(build: Callable[[], nn.Module] | None = None, **values: object) -> Setup:
    compute = device.choose("cpu", "fp32")
    return Setup(settings(**values), build or small_models.perceptron, some_images(64), some_images(32), compute)


def without_clock(trials: Sequence[Trial]) -> list[object]:
    return [(t.number, t.learning_rate, t.failure, [(e.train, e.heldout) for e in t.epochs]) for t in trials]


def quiet() -> Callbacks:
    return Callbacks(on_batch=lambda images: None, on_epoch=lambda number, rate, history, learner: None)


def search(common: Setup, workers: int, callbacks: Callbacks | None = None, rounds_of: int = 0) -> list[Trial]:
    plan = Plan("inline" if workers == 1 else "processes", workers, ("cpu",))
    with runners.open_runner(plan, common, callbacks or quiet()) as runner:
        return tune.search(common.settings, runner, rounds_of or workers, lambda trial: None)


# --- the same records ---


def test_rounds_after_the_start_up() -> None:
    assert list(tune.rounds(settings(max_evals=9, tune_startup_trials=4), 2)) == [
        range(4),
        *map(range, (4, 6, 8), (6, 8, 9)),
    ]
    assert list(tune.rounds(settings(max_evals=3), 2)) == [range(3)]


def test_workers_give_the_records_of_one_process() -> None:
    """Start-up and adaptive trials; the latter in rounds of two in both."""
    common = setup(max_evals=5, tune_startup_trials=2)
    told: list[tuple[int, int, Learner | None]] = []
    callbacks = Callbacks(
        on_batch=lambda images: None,
        on_epoch=lambda number, rate, history, learner: told.append((number, len(history), learner)),
    )
    inline, side_by_side = search(common, 1, rounds_of=2), search(common, 2, callbacks)
    assert without_clock(side_by_side) == without_clock(inline)
    assert sorted(told, key=lambda item: item[:2]) == [(n, e, None) for n in range(5) for e in (1, 2)]


class Backwards:
    """A runner whose trials end in the reverse order."""

    def __init__(self, runner: runners.Runner) -> None:
        self.runner = runner

    def run(self, orders: Sequence[Order]) -> Iterator[Trial]:
        return self.runner.run(orders[::-1])


def test_the_order_of_arrival_does_not_matter() -> None:
    common = setup(max_evals=5, tune_startup_trials=3)
    arrived: list[int] = []
    with runners.open_runner(Plan("inline", 1, ("cpu",)), common, quiet()) as runner:
        trials = tune.search(common.settings, Backwards(runner), 2, lambda trial: arrived.append(trial.number))
    assert arrived == [2, 1, 0, 4, 3]
    assert without_clock(trials) == without_clock(search(common, 1, rounds_of=2))


def test_gaps_are_filled_and_what_is_finished_is_kept() -> None:
    common = setup(max_evals=5, tune_startup_trials=3)
    whole = search(common, 1, rounds_of=2)
    ran: list[int] = []
    with runners.open_runner(Plan("inline", 1, ("cpu",)), common, quiet()) as runner:
        finished = Standing((whole[1], whole[4]))
        trials = tune.search(common.settings, runner, 2, lambda trial: ran.append(trial.number), finished)
    assert ran == [0, 2, 3]
    assert without_clock(trials) == without_clock(whole)


def test_a_state_with_gaps_comes_back() -> None:
    epoch = Epoch(1, Score(1.0, 10.0), Score(0.5, 20.0), 0.5)
    standing = Standing((Trial(1, 1e-3, (epoch,)), Trial(4, 1e-2, (), "failed")), 0, (epoch,), None)
    assert decode(encode(Saved(Identity({}, "", {}), 1, standing))).standing == standing


@pytest.mark.slow
def test_a_trial_that_one_process_began_goes_on_in_another() -> None:
    common = setup(max_evals=1, tune_max_epochs=3)
    states: list[Paused] = []
    keep = Callbacks(
        on_batch=lambda images: None,
        on_epoch=lambda number, rate, history, learner: states.append(
            Paused(tuple(history), snapshot(learner))  # type: ignore[arg-type]
        ),
    )
    (whole,) = search(common, 1, keep)
    with processes(common, quiet(), 2, ["cpu"]) as runner:
        (trial,) = runner.run([Order(0, whole.learning_rate, states[0])])
    assert without_clock([trial]) == without_clock([whole])
    assert trial.epochs[0] == whole.epochs[0], "the first epoch was not run again"


# --- faults ---


@pytest.mark.slow
def test_a_trial_that_kills_every_worker_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DEATHS > 2
    monkeypatch.setattr("job.search.processes.DEATHS", 2)
    common = setup(stubborn, max_evals=1)
    with processes(common, quiet(), 2, ["cpu"]) as runner:
        (trial,) = runner.run([Order(0, 1e-3)])
    assert trial.failure == "its worker died 2 times, the last one was killed (by the system where memory ran out)"


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_memory_that_is_not_enough_fails_the_trial(workers: int) -> None:
    with runners.open_runner(
        Plan("inline" if workers == 1 else "processes", workers, ("cpu",)), setup(hungry), quiet()
    ) as runner:
        trials = list(runner.run([Order(0, 1e-3)]))
    assert {trial.failure for trial in trials} == {OUT_OF_MEMORY}


def test_a_bug_in_a_worker_reaches_the_job() -> None:
    """Told with the number of threads in it: the one that the job chose, whatever the worker would have chosen."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with (
            processes(setup(broken), quiet(), 2, ["cpu"]) as runner,
            pytest.raises(RuntimeError, match=r"a bug in a model; threads: 3\b"),
        ):
            list(runner.run([Order(0, 1e-3)]))
    finally:
        torch.set_num_threads(before)


def test_leaving_ends_the_workers_which_shared_one_copy_of_the_images() -> None:
    """Both map the very same file, which has no name anywhere."""
    inodes: dict[int, str] = {}

    def look(number: int, *_: object) -> None:
        for worker in runner._workers:
            if worker is not None and worker.process.pid is not None:
                maps = Path(f"/proc/{worker.process.pid}/maps").read_text().splitlines()
                inodes[worker.process.pid] = next((line.split()[4] for line in maps if "images" in line), "")
        if len(inodes) == 2 and all(inodes.values()):
            raise Interrupted(signal.SIGTERM)

    orders = [Order(0, 1e-3), Order(1, 1e-3)]
    endless = setup(tune_max_epochs=100_000, patience=100_000)
    with suppress(Interrupted), processes(endless, Callbacks(lambda n: None, look), 2, ["cpu"]) as runner:
        list(runner.run(orders))
    assert len(set(inodes.values())) == 1
    assert len(inodes) == 2
    assert not any(start_time(pid) for pid in inodes)


# --- the whole job ---

WORKERS = TINY | {
    "WORKERS": "2",
    "MAX_EVALS": "6",
    "TUNE_STARTUP_TRIALS": "4",
    "TUNE_MAX_EPOCHS": "8",
    "DATA_LIMIT": "2000",
    "RUN_ID": "run",
    "LOG_FORMAT": "json",
}


def start(directory: Path, **variables: str) -> subprocess.Popen[str]:
    return start_job(directory, WORKERS | variables)


def worker_processes(pid: int) -> list[int]:
    """The workers among the children of this process (proc(5), field 4 of stat); they have begun to run Python."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"spawn_main" in stat.with_name("cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def wait_for(process: subprocess.Popen[str], event: str, times: int = 1) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if tells(line, event):
            times -= 1
            if not times:
                return
    raise AssertionError(f"no {event} in the log")


def gone(pids: Sequence[int], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not any(start_time(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
def test_killed_and_stopped_jobs_end_with_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    """A worker killed, the driver killed (no worker outlives it), the job stopped; against a job left alone."""
    process = start(tmp_path)
    wait_for(process, "epoch")
    os.kill(worker_processes(process.pid)[0], signal.SIGKILL)
    wait_for(process, "worker")
    wait_for(process, "trial")
    while not list(tmp_path.glob("outputs/run/checkpoint/[01]")):
        assert process.poll() is None, "it ended before it was killed"
        time.sleep(0.01)
    workers = worker_processes(process.pid)
    process.kill()
    process.wait()
    assert workers
    assert gone(workers), "orphans"

    process = start(tmp_path)
    wait_for(process, "epoch")
    workers = worker_processes(process.pid)
    process.send_signal(signal.SIGTERM)
    sent = time.monotonic()
    rest = process.communicate()[0]
    assert process.returncode == 143, rest
    assert time.monotonic() - sent < 10
    assert gone(workers)

    alone = start(tmp_path, OUTPUT="alone")
    process = start(tmp_path, WORKERS="auto")  # rounds of two as it began, though one process runs them
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "in rounds of 2" in said
    said = alone.communicate()[0]
    assert alone.returncode == 0, said
    mine, theirs = (comparable(directory_files(tmp_path / place / "run")) for place in ("outputs", "alone"))
    for results in (mine, theirs):
        assert results["results.json"]["settings"].pop("RUN_ID")
    assert len(theirs["trials.csv"]) == 6
    assert mine == theirs


def test_workers_shape_an_adaptive_search_alone() -> None:
    def kept(**values: object) -> tuple[int, object]:
        wanted = settings(**values)
        with runners.planned(wanted, device.choose("cpu", "fp32"), lambda: None) as plan:
            return runners.in_rounds(plan, wanted, {"WORKERS": "2"}).round, wanted.shaping().get("WORKERS")

    assert kept(max_evals=30) == (2, None), "as the run began"
    assert kept(max_evals=30, workers="3") == (3, "3"), "another run"
    assert kept(max_evals=20, workers="3") == (3, None), "random draws: the same run on any number"
