"""Trials trained at once against the same trials one after the other: records, winner, resuming, memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from job import device, models
from job.data import Split, synthetic
from job.device import Compute
from job.device.memory import OUT_OF_MEMORY
from job.errors import Fault
from job.results import Trial, winner
from job.runs.checkpoint import Identity, Saved, check, decode, encode
from job.runs.standing import Standing
from job.search import batched, runners, tune
from job.search.batched import Batched
from job.search.grouped import Begun
from job.search.runners import Plan
from job.search.stacked import epochs, proof
from job.search.stacked.architecture import architecture, bytes_each
from job.search.stacked.step import Stack
from job.search.trial import Callbacks, Order, Setup, run_trial
from tests.conftest import TINY, bare_environment
from tests.helpers import small_models
from tests.helpers.chaos import comparable, directory_files
from tests.helpers.odd_models import hungry
from tests.helpers.rounding import CLOSE, FP64
from tests.search.test_runners import quiet, search, settings, setup, without_clock
from tests.search.test_stacked import SMALL

RATES = (1e-3, 3e-4, 3e-3, 3e-5, 1e-4)
ORDERS = tuple(Order(number, rate) for number, rate in enumerate(RATES))
States = list[tuple[Sequence[Trial], Sequence[Trial], dict[str, Any]]]


def at_once(common: Setup, together: int, orders: Sequence[Order] = ORDERS, begun: Begun | None = None) -> list[Trial]:
    return sorted(Batched(common, quiet(), together, begun).run(orders), key=lambda trial: trial.number)


def unequal(name: str) -> Setup:
    """Trials on drawn images that end after different numbers of epochs."""
    arrays = synthetic.draw(1, 200)
    drawn = Split(torch.from_numpy(arrays.train_images), torch.from_numpy(arrays.train_labels))
    common = setup(SMALL[name], patience=1, tune_max_epochs=4)
    parts = {"train": drawn.take(np.arange(0, 120)), "validation": drawn.take(np.arange(120, 200))}
    return replace(common, compute=FP64, **parts)


@cache
def one_by_one(name: str) -> list[Trial]:
    return [run_trial(unequal(name), order, quiet()) for order in ORDERS]


@pytest.mark.parametrize("name", list(SMALL))
@pytest.mark.parametrize("together", [5, 2])
def test_records_and_winner_are_those_of_trials_one_by_one(name: str, together: int) -> None:
    """Trials of different lengths, also where others take their places; in float64."""
    expected, trials = one_by_one(name), at_once(unequal(name), together)
    assert len({len(trial.epochs) for trial in expected}) > 1, "not all of one length, or nobody leaves"
    for mine, theirs in zip(trials, expected, strict=True):
        assert (mine.number, mine.learning_rate, mine.failure) == (theirs.number, theirs.learning_rate, theirs.failure)
        assert mine.best_epoch == theirs.best_epoch
        assert [e.number for e in mine.epochs] == [e.number for e in theirs.epochs]
        for a, b in zip(mine.epochs, theirs.epochs, strict=True):
            assert (a.train.loss, a.heldout.loss) == pytest.approx((b.train.loss, b.heldout.loss), rel=CLOSE)
            assert (a.train.accuracy, a.heldout.accuracy) == (b.train.accuracy, b.heldout.accuracy)
    best, sequential = winner(trials), winner(expected)
    assert best is not None
    assert sequential is not None
    assert (best.number, best.best_epoch) == (sequential.number, sequential.best_epoch)


def test_a_diverging_trial_fails_alone() -> None:
    common = setup(tune_max_epochs=3, batch_size=16)
    trials = at_once(common, 3, (Order(0, 1e-3), Order(1, 1e38), Order(2, 1e-3)))
    assert "diverged in epoch" in trials[1].failure
    assert [len(trial.epochs) for trial in (trials[0], trials[2])] == [3, 3]


def test_trials_after_the_start_up_come_one_by_one() -> None:
    """Those are the very records of the inline runner, given the same ones before them."""
    common = setup(max_evals=4, tune_startup_trials=2)
    with runners.open_runner(Plan("batched", 1, ("cpu",), 2), common, quiet()) as runner:
        trials = tune.search(common.settings, runner, 1, lambda trial: None)
    start = trials[:2]
    with runners.open_runner(Plan("inline", 1, ("cpu",)), common, quiet()) as runner:
        expected = tune.search(common.settings, runner, 1, lambda trial: None, Standing(tuple(start)))
    assert without_clock(trials) == without_clock(expected)
    assert [t.learning_rate for t in start] == [t.learning_rate for t in search(common, 1)[:2]]


# --- going on ---


def states_of(common: Setup, together: int) -> tuple[list[Trial], States]:
    """The records of a whole search, and what could have been saved after each of its epochs."""
    done: list[Trial] = []
    states: States = []

    def on_group(begun: Sequence[Trial], copied: Callable[[], dict[str, Any]]) -> None:
        states.append((tuple(done), tuple(begun), copied()))

    callbacks = Callbacks(lambda count: None, lambda number, rate, history, learner: None, on_group)
    for trial in Batched(common, callbacks, together).run(ORDERS):
        done.append(trial)
    return sorted(done, key=lambda trial: trial.number), states


def test_every_state_leads_to_the_same_bytes() -> None:
    """After each epoch of the group: killed there, read back from a checkpoint's bytes, and gone on."""
    common = unequal("residual")
    whole, states = states_of(common, 3)
    assert states[-1][1:] == ((), {}), "the group has ended"
    assert len(states) > 4
    for done, begun, state in states[:-1]:
        standing = Standing(tuple(done), learner=state, begun=tuple(begun))
        back = decode(encode(Saved(Identity({}, "", {}), 1, standing))).standing
        assert back.begun == tuple(begun)
        assert back.learner is not None
        left = [order for order in ORDERS if order.number not in {trial.number for trial in done}]
        rest = at_once(common, 3, left, Begun(back.begun, back.learner))
        together = sorted((*done, *rest), key=lambda trial: trial.number)
        assert without_clock(together) == without_clock(whole)


def test_each_trial_is_booked_its_share_of_the_time() -> None:
    told: list[int] = []
    callbacks = Callbacks(lambda count: None, lambda number, rate, history, learner: told.append(number))
    trials = list(Batched(setup(), callbacks, 5).run(ORDERS))
    assert told == [0, 1, 2, 3, 4] * 2
    assert len({trial.epochs[0].seconds for trial in trials}) == 1


# --- memory ---


def test_a_group_that_is_too_large_is_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory for three at most: 5, then 2 at a time; every trial is run whole."""
    sizes: list[int] = []
    real = epochs.epoch

    def epoch(stack: Stack, *rest: Any) -> Any:
        sizes.append(len(stack.parts))
        if len(stack.parts) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(stack, *rest)

    monkeypatch.setattr(epochs, "epoch", epoch)
    common = setup()
    assert without_clock(at_once(common, 5)) == without_clock(at_once(common, 2))
    assert sizes[:7] == [5, 2, 2, 2, 2, 1, 1]


def test_memory_that_is_not_enough_for_one_fails_each_trial() -> None:
    trials = at_once(setup(hungry), 5)
    assert [(trial.number, trial.failure) for trial in trials] == [(n, OUT_OF_MEMORY) for n in range(5)]


def test_as_many_as_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    compute, build = device.choose("cpu", "fp32"), partial(models.find("mlp").build, 10)
    each = bytes_each(architecture(build, compute), 128)
    assert each > 6 * 4 * models.find("mlp").PARAMETERS
    for free, expected in ((0, 1), (10 * each, 6), (1000 * each, 600)):
        monkeypatch.setattr(batched, "free_memory", lambda where, free=free: free)
        assert batched.fitting(build, compute, 128) == expected
    assert batched.fitting(hungry, compute, 128) == 1


# --- choosing ---

GPU = Compute(torch.device("cuda"), "bf16", "", "")


@pytest.mark.parametrize(
    ("name", "compute", "chosen"),
    [
        ("mlp", GPU, True),
        ("vit", GPU, False),
        ("cnn", GPU, False),
        ("resnet18", GPU, False),
        ("mlp", Compute(torch.device("cuda"), "fp16", "", ""), False),
        ("mlp", Compute(torch.device("cpu"), "fp32", "", ""), False),
    ],
)
def test_where_it_pays(name: str, compute: Compute, chosen: bool) -> None:
    assert batched.pays(partial(models.find(name).build, 10), compute) is chosen


def test_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    compute, build = device.choose("cpu", "fp32"), small_models.perceptron
    monkeypatch.setattr(batched, "pays", lambda build, compute: True)
    monkeypatch.setattr(batched, "fitting", lambda build, compute, batch_size: 7)

    def together(kept: dict[str, Any] | None = None, **values: object) -> int:
        wanted = settings(**values)
        with runners.planned(wanted, compute, lambda: None) as plan:
            plan = runners.with_batches(plan, wanted, build, compute, kept)
            assert plan.arithmetic() == ({"trials_together": plan.together} if plan.kind == "batched" else {})
            return plan.together

    assert together() == 7
    assert together(max_evals=5) == 5
    assert together(tune_startup_trials=3) == 3
    assert together(max_evals=1) == 1
    assert together(workers="1") == 1, "one by one, where somebody says so"
    assert together(workers="2") == 1
    assert together(learning_rate=1e-3, epochs=1) == 1
    assert together({"trials_together": 4}) == 4, "as the run began"
    assert together({}) == 1, "as the run began"
    monkeypatch.setattr(proof, "fault_of", lambda build, compute: "a graph that cannot be captured")
    assert together() == 1


# --- the whole job ---

PATCHED = """
import sys
from job.search import batched
batched.pays = lambda build, compute: True
batched.fitting = lambda build, compute, batch_size: 3
from job.__main__ import main
sys.exit(main([]))
"""
VARIABLES = TINY | {
    "MAX_EVALS": "6",
    "TUNE_STARTUP_TRIALS": "5",
    "TUNE_MAX_EPOCHS": "6",
    "PATIENCE": "3",
    "DATA_LIMIT": "1000",
    "RUN_ID": "run",
    "LOG_FORMAT": "json",
}


def start(directory: Path, **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PATCHED],
        cwd=directory,
        env=bare_environment() | VARIABLES | variables,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_killed_group_goes_on_to_the_bytes_of_an_undisturbed_one(tmp_path: Path) -> None:
    """Killed in the middle of a group, and gone on; against a job left alone."""
    process = start(tmp_path, OUTPUT="killed")
    assert process.stdout is not None
    for line in process.stdout:
        if list(tmp_path.glob("killed/run/checkpoint/[01]")) and '"epoch"' in line:
            break
    process.kill()
    process.communicate(timeout=30)
    jobs = [start(tmp_path, OUTPUT=place) for place in ("killed", "alone")]
    said = [job.communicate(timeout=120)[0] for job in jobs]
    assert [job.returncode for job in jobs] == [0, 0], said
    assert "up to 3 at once as one batched model" in said[1]
    resumed = next(json.loads(line) for line in said[0].splitlines() if '"resume"' in line)
    assert "into 3 trials at once" in resumed["message"], resumed
    mine, theirs = (comparable(directory_files(tmp_path / place / "run")) for place in ("killed", "alone"))
    assert mine == theirs


def test_a_run_is_not_gone_on_with_one_by_one() -> None:
    arithmetic = {"device": "cpu", "precision": "fp32", "threads": 1}
    begun = arithmetic | Plan("batched", 1, together=3).arithmetic()
    saved = Saved(Identity({"MODEL": "mlp"}, "", begun), 1, Standing())
    now = Identity({"MODEL": "mlp"}, "", arithmetic | Plan("inline", 1).arithmetic())
    with pytest.raises(Fault, match="trials_together was 3 and is None"):
        check(saved, now, "here")
