"""Finished runs as a comparison sees them, in groups that share a data set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from job.models import PLAIN
from job.report.answers import Answers, from_csv
from job.report.metrics import wilson
from job.report.records import data_name
from job.report.words import count


@dataclass(frozen=True)
class Run:
    """What a comparison needs of a finished run. `recalls` are class → (found, all), empty for an old run's results.

    `answers` are None for a run that kept none. `tested` is the test accuracy in percent after each epoch of the final
    training, `validated` the validation loss after each of the winning trial; empty where there was no search.
    """

    name: str
    model: str
    dataset: str
    data_sha256: str
    train_images: int
    images: int
    correct: int
    loss: float
    parameters: int
    learning_rate: float
    epochs: int
    tuning_seconds: float
    training_seconds: float
    hardware: str
    precision: str
    recalls: dict[str, tuple[int, int]]
    origin: str = ""
    answers: Answers | None = field(default=None, compare=False)
    recipe: str = PLAIN.name
    max_hours: float | None = None
    tested: tuple[float, ...] = ()
    validated: tuple[float, ...] = ()

    @property
    def kind(self) -> str:
        """The model, the recipe where it is not the plain one, and the time where it was limited: what tells runs apart
        at first.
        """
        name = self.model if self.recipe == PLAIN.name else f"{self.model} {self.recipe}"
        return name + self.within

    @property
    def within(self) -> str:
        return "" if self.max_hours is None else f" in {self.max_hours:g} h"

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.images)

    @property
    def seconds(self) -> float:
        return self.tuning_seconds + self.training_seconds

    def cost(self, price_per_hour: float | None) -> float | None:
        """USD for tuning and training; loading, evaluation and upload are not in it."""
        return None if price_per_hour is None else price_per_hour * self.seconds / 3600


def run_from(name: str, manifest: dict[str, Any], results: dict[str, Any], answers: bytes | None = None) -> Run:
    """The run in the folder `name`; `answers` is its `test_predictions.csv`.

    Raises KeyError, TypeError or ValueError for results that are none, and for answers that are not theirs.
    """
    images = int(results["data"]["test_images"])
    evaluation = results.get("evaluation", {"classes": [], "confusion_matrix": []})
    correct = round(results["test"]["accuracy_percent"] * images / 100)
    return Run(
        name=name,
        model=str(results["model"]["name"]),
        dataset=str(results["data"]["name"]),
        data_sha256=str(manifest["data_sha256"]),
        train_images=int(results["data"]["train_images"]),
        images=images,
        correct=correct,
        loss=float(results["test"]["loss"]),
        parameters=int(results["model"]["parameters"]),
        learning_rate=float(results["recipe"]["learning_rate"]),
        epochs=int(results["recipe"]["epochs"]),
        tuning_seconds=float(results["tuning"]["seconds"]),
        training_seconds=float(results["training"]["seconds"]),
        hardware=str(results["provenance"]["hardware"]),
        precision=str(results["provenance"]["precision"]),
        recipe=str(results["recipe"].get("name", PLAIN.name)),
        max_hours=results["time_limit"]["hours"] if "time_limit" in results else None,
        recalls={
            str(score["name"]): (int(row[index]), int(score["support"]))
            for index, (score, row) in enumerate(
                zip(evaluation["classes"], evaluation["confusion_matrix"], strict=True)
            )
        },
        tested=series(results["training"].get("epochs", []), "test_accuracy_percent"),
        validated=series(epochs_of_winner(results["tuning"]), "validation_loss"),
        origin=str(results["data"].get("origin", "")),
        answers=None if answers is None else answers_of(answers, results["data"]["classes"], images, correct),
    )


def epochs_of_winner(tuning: dict[str, Any]) -> Sequence[dict[str, Any]]:
    best = tuning.get("best_trial")
    return next((trial["epochs"] for trial in tuning.get("trials", []) if trial["trial"] == best), [])


def series(epochs: Sequence[dict[str, Any]], key: str) -> tuple[float, ...]:
    """A value of each epoch; what is no number in JSON is none here."""
    return tuple(math.nan if epoch[key] is None else float(epoch[key]) for epoch in epochs)


def answers_of(content: bytes, classes: Sequence[str], images: int, correct: int) -> Answers:
    """The answers in `content`. Raises ValueError where they are not those of which the results tell."""
    answers = from_csv(content, classes)
    if (len(answers), int(answers.right.sum())) != (images, correct):
        raise ValueError("test_predictions.csv and results.json count different answers")
    return answers


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by data set, large groups first, and within each the most accurate first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.data_sha256, []).append(run)
    for group in groups.values():
        group.sort(key=lambda run: (-run.accuracy, run.loss, run.name))
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].dataset, group[0].data_sha256))


def title(group: Sequence[Run]) -> str:
    first = group[0]
    name = data_name(first.dataset, first.origin)
    return f"{name}: {count(first.train_images)} training and {count(first.images)} test images"


def labels(group: Sequence[Run]) -> list[str]:
    """The models' names, with the recipe where it is not plain and the time where it was limited; a run's own name
    where several are of one kind.
    """
    often = Counter(run.kind for run in group)
    own = [(run.name if run.recipe == PLAIN.name else f"{run.name} ({run.recipe})") + run.within for run in group]
    return [run.kind if often[run.kind] == 1 else name for run, name in zip(group, own, strict=True)]


def several(groups: Sequence[Sequence[Run]]) -> str:
    return f"{len(groups)} different data sets: figures of different ones do not compare, so each stands by itself."
