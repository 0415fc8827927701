"""`results.json` back into the records it was written from, and how two of them differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from job.models import PLAIN, Recipe
from job.report.answers import Answers
from job.report.metrics import evaluate
from job.report.records import OfRecipe, RunReport, TimeLimit
from job.report.tables import ENDINGS
from job.report.words import ran_on
from job.results import CUT, Choice, Epoch, Score, Trial, winner

NEAR = 1e-9  # sums of the same numbers in another order


def report_from(
    results: dict[str, Any], answers: Answers, structure: str, parameters: int, images: NDArray[np.uint8]
) -> RunReport:
    """The report on a run, from what cannot be computed again (epochs, settings, provenance) and what can: everything
    else is worked out anew from it. `images` are the test set's, uint8 `[images, rows, columns, RGB]`.

    Raises KeyError, TypeError or ValueError where `results` lack something.
    """
    settings = results["settings"]
    recipe = recipe_from(results)
    trials = tuple(trial_from(each, recipe.scheduled) for each in results["tuning"]["trials"])
    history = tuple(epoch_from(each, "test") for each in results["training"]["epochs"])
    choice = choice_from(trials, settings, recipe)
    limit = limit_from(results, trials, choice, len(history))
    if limit is not None:
        choice = replace(choice, epochs=limit.epochs_planned if recipe.scheduled else limit.epochs)
    was, evaluation = results["provenance"], evaluate(answers, results["data"]["classes"])
    return RunReport(
        run_name=results["run"],
        model=results["model"]["name"],
        structure=structure,
        parameters=parameters,
        batch_size=settings["BATCH_SIZE"]["value"],
        choice=choice,
        way=OfRecipe(recipe),
        trials=trials,
        tuning_seconds=results["tuning"]["seconds"],
        history=history,
        limit=limit,
        device=ran_on(was),
        settings={name: entry["value"] for name, entry in settings.items()},
        sources={name: entry["source"] for name, entry in settings.items()},
        data=results["data"],
        provenance=was,
        answers=answers,
        evaluation=evaluation,
        thumbnails=images[[mistake.row for mistake in evaluation.mistakes]],
    )


def recipe_from(results: dict[str, Any]) -> Recipe:
    """How the run's model was trained, plainly where the results do not say."""
    told = results["recipe"]
    if "name" not in told:
        return PLAIN
    fields = {name: told[name] for name in ("name", "optimizer", "weight_decay", "label_smoothing")}
    return Recipe(
        **fields, rates=tuple(told["rates"]), epochs=told["own_epochs"], augmentation=tuple(told["augmentation"])
    )


def choice_from(trials: tuple[Trial, ...], settings: dict[str, Any], recipe: Recipe) -> Choice:
    """The winner's, or the user's own where there was no search."""
    best = winner(trials)
    if best is None:
        return Choice(settings["LEARNING_RATE"]["value"], settings["EPOCHS"]["value"], None)
    epochs = settings["EPOCHS"]["value"] or recipe.epochs or best.best_epoch
    return Choice(best.learning_rate, epochs, best.number)


def limit_from(results: dict[str, Any], trials: Sequence[Trial], wanted: Choice, epochs: int) -> TimeLimit | None:
    """What fitted into MAX_HOURS, counted again; what was planned is not to be seen from what came of it."""
    hours = results["settings"].get("MAX_HOURS", {}).get("value")
    if hours is None:
        return None
    planned = results["time_limit"]["epochs_planned"]
    wanted_trials = results["settings"]["MAX_EVALS"]["value"] if trials else 0
    took = {name: results["time_limit"][name] for name in ("loading_seconds", "answers_seconds")}
    return replace(time_limit(hours, trials, wanted_trials, (epochs, planned, wanted.epochs)), **took)


def time_limit(hours: float, trials: Sequence[Trial], wanted: int, epochs: tuple[int, int, int]) -> TimeLimit:
    """`epochs` are those of the final training that were done, planned, and wanted."""
    return TimeLimit(hours, len(trials), wanted, sum(trial.ending == CUT for trial in trials), *epochs)


def trial_from(entry: dict[str, Any], complete: bool) -> Trial:
    epochs = tuple(epoch_from(each, "validation") for each in entry["epochs"])
    ending = next((ending for ending, name in ENDINGS.items() if entry.get(name)), "")
    number, rate = entry["trial"] - 1, entry["learning_rate"]
    return Trial(number, rate, epochs, entry["failure"] or "", complete=complete, ending=ending)


def epoch_from(entry: dict[str, Any], heldout: str) -> Epoch:
    """One epoch; what JSON could not hold was no number."""

    def score(name: str) -> Score:
        loss, accuracy = entry[f"{name}_loss"], entry[f"{name}_accuracy_percent"]
        return Score(math.nan if loss is None else loss, math.nan if accuracy is None else accuracy)

    return Epoch(entry["epoch"], score("train"), score(heldout), entry["seconds"])


def differing(said: Any, now: Any, path: str = "") -> Iterator[str]:
    """Where `said` is not `now`, both as JSON: a line for each place. What only `said` holds is not looked at."""
    if isinstance(now, dict) and isinstance(said, dict):
        for key, value in now.items():
            place = f"{path}.{key}" if path else str(key)
            if key in said:
                yield from differing(said[key], value, place)
            else:
                yield f"{place} is missing"
    elif isinstance(now, list | tuple) and isinstance(said, list) and len(said) == len(now):
        for number, (one, other) in enumerate(zip(said, now, strict=True)):
            yield from differing(one, other, f"{path}[{number}]")
    elif not same(said, now):
        yield f"{path} is {shortened(said)} and must be {shortened(now)}"


def same(said: Any, now: Any) -> bool:
    numbers = [isinstance(each, int | float) and not isinstance(each, bool) for each in (said, now)]
    if all(numbers):
        return math.isclose(said, now, rel_tol=NEAR, abs_tol=NEAR)
    return type(said) is type(now) and bool(said == now)


def shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
