"""The search: which learning rates, in which order, when a trial stops, and which one wins."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import hyperopt
import numpy as np
import pytest
import torch

from job import device, engine
from job.data import Split
from job.data.draws import tuning_counts, tuning_doubt, tuning_rows
from job.engine.learner import Learner
from job.errors import Fault
from job.results import Epoch, Score, Trial, best_epoch, hopeless, out_of_patience, winner
from job.runs.standing import Standing
from job.search import trial as trials_of
from job.search import tune
from job.search.inline import Inline
from job.search.trial import Callbacks, Order, Setup
from job.seeds import seed_for
from job.settings import Settings
from tests.helpers import small_models


def trial(number: int, rate: float, losses: Sequence[float], failure: str = "") -> Trial:
    epochs = tuple(Epoch(n, Score(1, 10), Score(loss, 10), 1.0) for n, loss in enumerate(losses, start=1))
    return Trial(number, rate, epochs, failure)


@pytest.mark.parametrize(
    ("losses", "patience", "stops_after", "best"),
    [
        ([3, 2, 1, 2, 2, 2, 2, 2, 0], 5, 8, 3),  # five in a row without a better one
        ([3, 2, 1, 2, 2, 2, 2, 0.5, 2, 2, 2, 2, 2], 5, 13, 8),  # a better one in time starts the count again
        ([1, 1, 1], 2, 3, 1),  # equal is not better; the first of equals is the best
        ([5, 4, 3, 2, 1], 1, None, 5),  # always better: never stops
        ([1, 2], 1, 2, 1),
    ],
)
def test_patience(losses: list[float], patience: int, stops_after: int | None, best: int) -> None:
    stopped = next((n for n in range(1, len(losses) + 1) if out_of_patience(losses[:n], patience)), None)
    assert stopped == stops_after
    assert best_epoch(losses[:stopped]) == best


def test_the_winner_has_the_lowest_loss() -> None:
    trials = [
        trial(0, 0.1, [2, 1.5]),
        trial(1, 0.2, [3, 1.2, 1.4]),
        trial(2, 0.3, [1.2]),
        trial(3, 0.4, [0.1], "diverged"),
    ]
    best = winner(trials)
    assert best is not None
    assert (best.number, best.best_epoch, best.validation_loss) == (1, 2, 1.2), "the earlier of equals; no failed one"
    assert winner([trial(0, 0.1, [math.nan], "diverged")]) is None


def settings(**values: object) -> Settings:
    return Settings(**({"model": "mlp", "dataset": "synthetic"} | values))  # type: ignore[arg-type]


def suggestions(wanted: Settings, count: int) -> list[float]:
    """What is suggested when a trial's loss grows with the distance of its rate from 1e-3."""
    trials: list[Trial] = []
    for number in range(count):
        rate = tune.suggest(wanted, number, trials)
        trials.append(trial(number, rate, [abs(math.log(rate / 1e-3))]))
    return [t.learning_rate for t in trials]


def test_start_up_suggestions_are_hyperopts_random_draws() -> None:
    """The nth is what hyperopt's own random search draws from default_rng([SEED, n]), whatever came before."""
    wanted = settings()
    space = hyperopt.hp.loguniform("learning_rate", -10, -4)
    for number, rate in enumerate(suggestions(wanted, 4)):
        domain = hyperopt.base.Domain(lambda rate: 0, space)
        seed = np.random.default_rng([3407, number]).integers(2**31 - 1)
        (document,) = hyperopt.rand.suggest([number], domain, hyperopt.Trials(), int(seed))
        assert rate == document["misc"]["vals"]["learning_rate"][0]


def test_suggestions_depend_on_the_seed_and_the_earlier_trials_alone() -> None:
    adaptive = settings(tune_startup_trials=5)
    first = suggestions(adaptive, 12)
    assert first == suggestions(adaptive, 12)
    assert len(set(first)) == 12, "no suggestion is repeated"
    assert first != suggestions(settings(tune_startup_trials=5, seed=1), 12)
    assert all(math.exp(-10) <= rate <= math.exp(-4) for rate in first)


def test_tpe_suggestions_are_those_of_one_growing_hyperopt_search() -> None:
    """Trials handed over as records lead to the suggestions of hyperopt's own object that saw every one of them."""
    space = hyperopt.hp.loguniform("learning_rate", -10, -4)
    grown = hyperopt.Trials()
    for number in range(12):
        hyperopt.fmin(
            lambda rate: abs(math.log(rate / 1e-3)),
            space,
            algo=partial(hyperopt.tpe.suggest, n_startup_jobs=5),
            max_evals=number + 1,
            trials=grown,
            rstate=np.random.default_rng([3407, number]),
            show_progressbar=False,
        )
    assert suggestions(settings(tune_startup_trials=5), 12) == grown.vals["learning_rate"]


def test_tpe_adapts_after_the_start_up() -> None:
    """On average over seeds it comes closer to the best rate than random draws do."""

    def distance(startup: int) -> float:
        runs = [suggestions(settings(tune_startup_trials=startup, seed=seed), 20)[10:] for seed in range(4)]
        return float(np.mean([abs(math.log(rate / 1e-3)) for run in runs for rate in run]))

    assert distance(5) < 0.8 * distance(20)


def test_a_failed_trial_does_not_stop_the_suggestions() -> None:
    wanted = settings(tune_startup_trials=2)
    failed = [trial(n, 0.01, [math.nan], "diverged") for n in range(3)]
    assert math.exp(-10) <= tune.suggest(wanted, 3, failed) <= math.exp(-4)


class Recorder:
    """The runner's callbacks, keeping what they were told."""

    def __init__(self) -> None:
        self.epochs: list[tuple[int, Epoch]] = []
        self.trials: list[Trial] = []

    def callbacks(self) -> Callbacks:
        return Callbacks(
            on_batch=lambda images: None,
            on_epoch=lambda number, rate, history, learner: self.epochs.append((number, history[-1])),
        )


def some_images(count: int) -> Split:
    generator = torch.Generator().manual_seed(0)
    shape = (count, 32, 32, 3)
    return Split(torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator), torch.arange(count) % 10)


def scripted(monkeypatch: pytest.MonkeyPatch, scripts: Sequence[Sequence[float]]) -> None:
    """Lets the validation loss of trial n run through `scripts[n]`."""

    def epochs(learner: Learner, course: engine.Course, numbers: range):  # type: ignore[no-untyped-def]
        number = learner.part[1]
        assert isinstance(number, int)
        for epoch in numbers:
            yield epoch, Score(1.0, 10.0), Score(scripts[number][epoch - 1], 10.0)

    monkeypatch.setattr(trials_of, "epochs", epochs)


def search(wanted: Settings, recorder: Recorder, finished: Sequence[Trial] = ()) -> list[Trial]:
    compute = device.choose("cpu", "fp32")
    setup = Setup(wanted, small_models.perceptron, some_images(64), some_images(32), compute)
    return tune.search(
        wanted, Inline(setup, recorder.callbacks()), 1, recorder.trials.append, Standing(tuple(finished))
    )


def test_order_and_early_stopping_follow_a_scripted_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = [[3, 2, 2, 2, 2, 0], [5, 4, 3, 2, 1, 0.5], [1, math.nan, 0, 0, 0, 0]]
    scripted(monkeypatch, scripts)
    recorder = Recorder()
    trials = search(settings(max_evals=3, patience=3, tune_max_epochs=6), recorder)
    assert trials == recorder.trials
    assert [len(t.epochs) for t in trials] == [5, 6, 2]
    assert [t.best_epoch for t in trials] == [2, 6, 0]
    assert trials[2].failure == "the loss diverged in epoch 2"
    assert [(number, epoch.number) for number, epoch in recorder.epochs] == [
        *((0, n) for n in range(1, 6)),
        *((1, n) for n in range(1, 7)),
        *((2, n) for n in range(1, 3)),
    ]
    best = winner(trials)
    assert best is not None
    assert best.number == 1


def test_the_search_goes_on_from_finished_trials() -> None:
    wanted = settings(max_evals=3, tune_max_epochs=2, batch_size=32)
    whole = search(wanted, Recorder())
    rest = search(wanted, Recorder(), finished=whole[:1])

    def numbers(trials: Sequence[Trial]) -> list[object]:
        return [(t.number, t.learning_rate, [(e.train, e.heldout) for e in t.epochs]) for t in trials]

    assert numbers(rest) == numbers(whole)


def test_every_trial_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, [[math.inf], [math.nan]])
    with pytest.raises(Fault, match=r"all 2 trials failed.*the loss diverged in epoch 1"):
        search(settings(max_evals=2), Recorder())


def test_a_real_divergence_is_recorded() -> None:
    """Adam at an absurd rate: a real NaN out of real arithmetic."""
    compute = device.choose("cpu", "fp32")
    wanted = settings(tune_max_epochs=3, batch_size=16)
    setup = Setup(wanted, small_models.perceptron, some_images(64), some_images(32), compute)
    done = trials_of.run_trial(setup, Order(0, 1e38), Recorder().callbacks())
    assert "diverged" in done.failure
    assert done.validation_loss == math.inf


@pytest.mark.parametrize(
    ("count", "percent", "sizes"), [(50_000, 20, (8000, 2000)), (200, 50, (80, 20)), (100, 3, (2, 1))]
)
def test_the_tuning_subset(count: int, percent: float, sizes: tuple[int, int]) -> None:
    labels = np.zeros(count, dtype=np.int64)
    drawn = tuning_rows(labels, percent, 3407)
    assert (len(drawn.rows), len(drawn.validation_rows)) == sizes == tuning_counts(count, percent)
    assert len({*drawn.rows, *drawn.validation_rows}) == sum(sizes), "no image is in both"
    assert np.array_equal(drawn.rows, tuning_rows(labels, percent, 3407).rows)
    if count > 100:
        assert not np.array_equal(drawn.rows, tuning_rows(labels, percent, 1).rows)


def test_the_origins_subset_is_a_plain_random_draw() -> None:
    """The split on CIFAR-10's 50,000 images depends on their number and the seed alone, as it always did."""
    labels = np.arange(50_000) % 10
    drawn = tuning_rows(labels, 20, 3407)
    plain = np.random.default_rng(seed_for(3407, "tuning subset")).permutation(50_000)[:10_000]
    assert np.array_equal(np.concatenate([drawn.rows, drawn.validation_rows]), plain)
    assert drawn.missed == ()


def test_no_class_is_missing_from_what_the_search_trains_on() -> None:
    """200 images in 10 classes at 20 %: of 1,000 random draws hundreds leave out a class to train on."""
    labels = np.arange(200) % 10
    by_class = 0
    for seed in range(300):
        drawn = tuning_rows(labels, 20, seed)
        assert (len(drawn.rows), len(drawn.validation_rows)) == (32, 8)
        assert len({*drawn.rows, *drawn.validation_rows}) == 40
        assert set(labels[drawn.rows]) == set(range(10)), seed
        by_class += bool(drawn.missed)
    assert 30 < by_class < 150, "only where the random draw misses one"
    few = tuning_rows(labels, 5, 0)
    assert (len(few.rows), few.missed) == (8, ()), "eight images cannot be of ten classes"


def test_a_search_that_tells_little_is_told() -> None:
    assert "8 images of 10 classes" in tuning_doubt(32, 8, 10)
    assert "fewer than there are classes" in tuning_doubt(8, 200, 10)
    assert tuning_doubt(8000, 2000, 10) == ""


def test_a_search_that_is_worse_than_guessing_is_told() -> None:
    def trials(loss: float) -> list[Trial]:
        return [Trial(0, 4e-7, (Epoch(1, Score(1.0, 10.0), Score(loss, 10.0), 1.0),))]

    told = hopeless(trials(2e9), 10)
    assert "2e+09 at the learning rate 4e-07, is far above that of guessing (ln 10 = 2.303)" in told
    assert hopeless(trials(2.4), 10) == ""


def test_a_tuning_subset_that_is_too_small() -> None:
    with pytest.raises(Fault, match="TUNE_PERCENT=1 of 100"):
        tuning_rows(np.zeros(100, dtype=np.int64), 1, 0)
