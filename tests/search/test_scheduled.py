"""Trials under a recipe with a schedule: complete ones, of which the last epoch counts, whoever runs them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch

from job import device, models
from job.device import Compute
from job.engine.build import Builder
from job.engine.learner import Learner, snapshot
from job.modes.run import choice_of
from job.results import Epoch, Paused, Score, Trial, winner
from job.runs.checkpoint import as_trial
from job.search import batched
from job.search.batched import Batched, Begun
from job.search.trial import Callbacks, Order, Setup, run_trial
from job.settings import Settings
from tests.helpers import small_models
from tests.helpers.recipes import SGD, under
from tests.helpers.rounding import CLOSE, FP64
from tests.search.test_runners import quiet, search, without_clock
from tests.search.test_tune import some_images

SMALL = {"model": "mlp", "recipe": "strong", "dataset": "synthetic", "batch_size": 32, "device": "cpu"}
PARTS = ("crop", "flip", "cutout", "mixup")


def setup(**values: object) -> Setup:
    wanted = Settings(**(SMALL | {"tune_max_epochs": 4, "patience": 1} | values))  # type: ignore[arg-type]
    build = under(small_models.perceptron, SGD, augmentation=PARTS)
    return Setup(wanted, build, some_images(70), some_images(32), device.choose("cpu", "fp32"))


def epochs(*losses: float) -> tuple[Epoch, ...]:
    return tuple(Epoch(n, Score(1.0, 50.0), Score(loss, 50.0), 1.0) for n, loss in enumerate(losses, 1))


def test_the_last_epoch_counts() -> None:
    trials = [Trial(0, 0.1, epochs(0.5, 0.9), complete=True), Trial(1, 0.2, epochs(1.5, 0.8), complete=True)]
    assert winner(trials) is trials[1]
    assert (trials[0].validation_loss, trials[0].best_epoch) == (0.9, 2)
    assert winner([replace(trial, complete=False) for trial in trials]) == replace(trials[0], complete=False)
    assert as_trial(vars(trials[0]) | {"epochs": ()}) == replace(trials[0], epochs=()), "a state keeps it"
    strong = Settings(**(SMALL | {"model": "cnn"}))  # type: ignore[arg-type]
    assert choice_of(strong, trials).epochs == models.recipe("cnn", "strong").epochs
    assert choice_of(strong.model_copy(update={"epochs": 3}), trials).epochs == 3


def test_a_trial_is_a_complete_schedule_and_goes_on_where_it_was() -> None:
    """PATIENCE ends none; stopped after any epoch and gone on with it is the very same."""
    states: list[tuple[tuple[Epoch, ...], dict[str, object]]] = []

    def keep(number: int, rate: float, history: list[Epoch], learner: Learner | None) -> None:
        assert learner is not None
        states.append((tuple(history), snapshot(learner)))

    common, order = setup(), Order(3, 0.05)
    whole = run_trial(common, order, Callbacks(lambda images: None, keep))  # type: ignore[arg-type]
    assert len(whole.epochs) == 4
    assert whole.complete
    assert whole.validation_loss == whole.epochs[-1].heldout.loss
    for history, state in states:
        again = run_trial(common, replace(order, paused=Paused(history, state)), quiet())
        assert without_clock([again]) == without_clock([whole])


@pytest.mark.slow
def test_workers_give_the_records_of_one_process() -> None:
    common = setup(max_evals=3, tune_max_epochs=2)
    inline = search(common, 1)
    assert without_clock(search(common, 2)) == without_clock(inline)
    assert all(trial.complete for trial in inline)
    assert len({trial.epochs[-1].heldout.loss for trial in inline}) == 3, "each at its own peak rate"


def test_as_one_batched_model_they_are_the_same_trials() -> None:
    """Complete schedules at their own peak rates, in float64; gone on with from any state, to the same bytes."""
    common = replace(setup(tune_max_epochs=3), compute=FP64)
    orders = [Order(number, rate) for number, rate in enumerate((0.05, 0.01, 0.02))]
    states: list[Begun] = []

    def keep(begun: Sequence[Trial], copied: Callable[[], dict[str, object]]) -> None:
        if begun:
            states.append(Begun(tuple(begun), copied()))

    callbacks = Callbacks(lambda images: None, lambda *epoch: None, keep)
    together = list(Batched(common, callbacks, 2).run(orders))
    alone = [run_trial(common, order, quiet()) for order in orders]
    for ours, theirs in zip(sorted(together, key=lambda trial: trial.number), alone, strict=True):
        assert ours.complete
        assert [e.heldout.loss for e in ours.epochs] == pytest.approx(
            [e.heldout.loss for e in theirs.epochs], rel=CLOSE
        )
    assert len(states) > 3
    for begun in states:
        left = [order for order in orders if order.number >= begun.trials[0].number]
        again = list(Batched(common, quiet(), 2, begun).run(left))
        assert without_clock(again) == without_clock(together)[-len(again) :]


def test_on_a_gpu_they_are_trained_so_where_plain_ones_are() -> None:
    gpu = Compute(torch.device("cuda"), "bf16", "", "")
    for recipe in models.RECIPES:
        assert batched.pays(Builder("mlp", 10, recipe=models.recipe("mlp", recipe)), gpu)
        assert not batched.pays(Builder("cnn", 10, recipe=models.recipe("cnn", recipe)), gpu)


def test_a_strong_model_is_loaded_as_it_was_built() -> None:
    """The vit's weights fit both forms, which answer otherwise: model.json says which it is."""
    make = partial(Builder, "vit", 10)
    torch.manual_seed(0)
    strong = make(recipe=models.recipe("vit", "strong"))().eval()
    plain = make()().eval()
    plain.load_state_dict(strong.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert not torch.allclose(strong(images), plain(images), atol=1e-3)
