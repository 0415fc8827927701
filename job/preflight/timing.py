"""How long a run would take: a few steps of the real model, timed, and what that means for both phases."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from job import engine
from job.console.forecast import EXPECTED_BEST_EPOCH, Images, Work, clock
from job.data import Split
from job.device import Compute
from job.engine.build import Builder
from job.engine.learner import new_learner
from job.engine.proof import settle
from job.preflight.data import Counts
from job.preflight.findings import Finding, ok
from job.runs.budget import ENDING, EVALUATIONS, Speeds
from job.search import rungs
from job.search.workload import work_of
from job.settings import Settings

ENOUGH_SECONDS = 0.4  # a measurement that takes so long says something; the median of three is taken
LONG_SECONDS = 1.0  # one that takes so long is taken as it is
MOST_STEPS, MOST_IMAGES, MOST_BYTES = 100, 20_000, 1 << 28


@dataclass(frozen=True)
class Speed:
    """Seconds for a trained image, an evaluated one, and to build a model."""

    train: float
    evaluate: float
    build: float


@dataclass(frozen=True)
class Prediction:
    """Seconds of both phases as expected, and at most."""

    tuning: float
    training: float
    most_tuning: float
    most_training: float
    assumption: str


def measure(settings: Settings, compute: Compute, counts: Counts, check: Callable[[], object]) -> Speed:
    """Trains and evaluates the model on random images until the clock says something. `check` may raise to stop."""
    # From a random start: no download for a look.
    build = Builder(settings.model, counts.classes, settings.image_size, recipe=settings.way)

    def on_batch(_: int) -> None:
        check()

    batch = min(settings.batch_size, counts.train)
    compute = settle(compute, build, batch)
    for _ in range(2):  # the first time is a rehearsal: what torch loads once is no trial's cost
        started = time.monotonic()
        learner = new_learner(build, 1e-4, compute, settings.seed, ("preflight",))
        built = time.monotonic() - started

    def train(split: Split) -> None:
        engine.train_epoch(learner, split, 1, settings.batch_size, on_batch)

    def evaluate(split: Split) -> None:
        engine.evaluate(learner.model, split, compute, on_batch)

    most = min(MOST_STEPS * batch, MOST_IMAGES, MOST_BYTES // (3 * build.image_size**2))
    images = random_split(max(batch, most), counts.classes, build.image_size, compute)
    return Speed(
        seconds_an_image(train, images, batch, recorded=compute.step == "graph"),
        seconds_an_image(evaluate, images, min(len(images), 128)),
        built,
    )


def seconds_an_image(work: Callable[[Split], object], images: Split, count: int, *, recorded: bool = False) -> float:
    """Does `work` with `count` images, then with more until it takes long enough; the first time is a rehearsal, and
    so is the first with other images where steps are `recorded` for the very tensors that hold them.
    """
    work(first(images, count))
    while True:
        part = first(images, count)
        if recorded:
            work(part)
        started = time.monotonic()
        work(part)
        seconds = time.monotonic() - started
        if seconds >= ENOUGH_SECONDS or count >= len(images):
            break
        count = min(len(images), count * max(2, min(8, math.ceil(ENOUGH_SECONDS / max(seconds, 1e-6)))))

    again = []
    for _ in range(0 if seconds >= LONG_SECONDS else 2):
        started = time.monotonic()
        work(part)
        again.append(time.monotonic() - started)
    return statistics.median([seconds, *again]) / count


def first(images: Split, count: int) -> Split:
    return Split(images.images[:count], images.labels[:count])


def random_split(images: int, classes: int, side: int, compute: Compute) -> Split:
    """Noise and random labels on the device."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, side, side, 3), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, classes, (images,), generator=generator)
    return Split(pixels, labels).to(compute.device)


def predict(settings: Settings, counts: Counts, speed: Speed, workers: int) -> Prediction:
    """Both phases' time from the speed and from how many epochs a trial and the final training usually take."""

    def epochs(count: float, train: int, heldout: int) -> float:
        return count * (train * speed.train + heldout * speed.evaluate)

    if settings.learning_rate is not None:
        assert settings.epochs is not None
        given = epochs(settings.epochs, counts.train, counts.test) + speed.build
        return Prediction(0.0, given, 0.0, given, f"{settings.epochs} epochs given")
    work = work_of(settings, counts.train, counts.test, counts.validation, workers)
    final = settings.final_epochs or min(EXPECTED_BEST_EPOCH, settings.tune_max_epochs)
    known = f"RECIPE=strong: {settings.tune_max_epochs} epochs a trial, {final} in the training"
    guess = f"if that is as usual: {work.tuning_epochs:.0f} epochs in all trials, {final} in the training"
    most = settings.max_evals * settings.tune_max_epochs
    if settings.search == "halving":
        most = rungs.search_epochs(settings, settings.tune_max_epochs)

    def tuning(in_all: float) -> float:
        trials = epochs(in_all, work.trial.train, work.trial.heldout) + settings.max_evals * speed.build
        return trials / min(workers, settings.max_evals)

    def training(each: float) -> float:
        return epochs(each, counts.train, counts.test) + speed.build

    return Prediction(
        tuning(work.tuning_epochs),
        training(final),
        tuning(most),
        training(settings.final_epochs or settings.tune_max_epochs),
        known if settings.way.scheduled else guess,
    )


def speeds(work: Work, speed: Speed) -> Speeds:
    """What an epoch of each part takes, and what follows the training: the test set is answered twice at most."""

    def epoch(images: Images) -> float:
        return images.train * speed.train + images.heldout * speed.evaluate

    trial = epoch(work.trial) + speed.build if work.trials else 0.0
    return Speeds(trial, epoch(work.final), ENDING + EVALUATIONS * work.final.heldout * speed.evaluate)


def findings(settings: Settings, prediction: Prediction, speed: Speed) -> list[Finding]:
    """The prediction for people, with what it would cost."""
    whole, most = prediction.tuning + prediction.training, prediction.most_tuning + prediction.most_training
    found = [
        ok("speed", f"{1 / speed.train:,.0f} images a second in training, {1 / speed.evaluate:,.0f} in evaluation"),
        Finding(
            "time",
            "ok",
            f"about {clock(whole)}: search {clock(prediction.tuning)}, training {clock(prediction.training)} "
            f"({prediction.assumption}); at most {clock(most)}; loading and reporting come on top",
            seconds=whole,
        ),
    ]
    if settings.price_per_hour is not None:
        cost, highest = (seconds / 3600 * settings.price_per_hour for seconds in (whole, most))
        found.append(
            ok("cost", f"about {cost:.2f} USD, at most {highest:.2f}, at {settings.price_per_hour:g} USD an hour")
        )
    return found
