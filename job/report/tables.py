"""`results.json` and the CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from job.console.logs import printable
from job.models import PLAIN, Recipe
from job.report.metrics import Evaluation
from job.report.records import RunReport
from job.results import CUT, STOPPED, Epoch, Score, Trial, winner

ENDINGS = {STOPPED: "stopped_at_rung", CUT: "cut_by_max_hours"}  # how others than a trial itself ended it


def as_json(report: RunReport) -> dict[str, Any]:
    """`results.json`: every number of the run."""
    best = winner(report.trials)
    last = report.history[-1].heldout
    return {
        "run": report.run_name,
        "model": {"name": report.model, "parameters": report.parameters, "structure": report.structure},
        "recipe": {
            "learning_rate": report.choice.learning_rate,
            "epochs": report.choice.epochs,
            "batch_size": report.batch_size,
            "chosen_by": "LEARNING_RATE and EPOCHS" if best is None else f"trial {best.number + 1}",
            **recipe_json(report.recipe),
        },
        "test": {"loss": last.loss, "accuracy_percent": last.accuracy},
        **test_time_flip(report.way.flipped),
        **({} if report.limit is None else {"time_limit": asdict(report.limit) | {"in_words": report.limit.in_words}}),
        "evaluation": evaluation_json(report.evaluation),
        "tuning": {
            "trials": [trial_json(trial) for trial in report.trials],
            "best_trial": None if best is None else best.number + 1,
            "seconds": report.tuning_seconds,
            "trial_seconds": report.trial_seconds,
        },
        "training": {
            "epochs": [epoch_json(epoch, "test") for epoch in report.history],
            "seconds": report.training_seconds,
        },
        "data": report.data,
        "settings": {name: {"value": value, "source": report.sources[name]} for name, value in report.settings.items()},
        "provenance": report.provenance,
    }


def test_time_flip(flipped: Score | None) -> dict[str, Any]:
    """A second figure beside the headline, where there is one."""
    return {} if flipped is None else {"test_time_flip": {"loss": flipped.loss, "accuracy_percent": flipped.accuracy}}


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """What a recipe is made of; nothing of the plain one, whose runs have told it by their settings ever since."""
    if recipe == PLAIN:
        return {}
    fields = asdict(recipe)
    own = {"own_epochs": fields.pop("epochs"), "rates": list(fields.pop("rates"))}
    return fields | own | {"augmentation": list(recipe.augmentation), "in_words": recipe.words()}


def evaluation_json(evaluation: Evaluation) -> dict[str, Any]:
    """The measures beyond loss and accuracy; shares are from 0 to 1 but for names that end in `_percent`."""
    return {
        "images": evaluation.images,
        "correct": evaluation.correct,
        "accuracy_interval_percent": [100 * end for end in evaluation.interval],
        **({"top5_accuracy_percent": 100 * top5} if (top5 := evaluation.top5_accuracy) is not None else {}),
        "balanced_accuracy_percent": 100 * evaluation.balanced_accuracy,
        "macro_f1": evaluation.macro_f1,
        "mean_confidence_percent": 100 * evaluation.confidence,
        "calibration_error_percent": 100 * evaluation.calibration_error,
        "classes": [asdict(score) for score in evaluation.per_class],
        "confusion_matrix": [list(row) for row in evaluation.confusion],
        "calibration": [asdict(part) for part in evaluation.bins],
        "most_confident_mistakes": [
            {
                "test_image": mistake.row,
                "image": mistake.name,
                "true": evaluation.per_class[mistake.true].name,
                "predicted": evaluation.per_class[mistake.predicted].name,
                "confidence": mistake.confidence,
            }
            for mistake in evaluation.mistakes
        ],
    }


def trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number + 1,
        "learning_rate": trial.learning_rate,
        "validation_loss": None if trial.failure else trial.validation_loss,
        "best_epoch": trial.best_epoch or None,
        "failure": trial.failure or None,
        **({ENDINGS[trial.ending]: len(trial.epochs)} if trial.ending in ENDINGS else {}),
        "seconds": trial.seconds,
        "epochs": [epoch_json(epoch, "validation") for epoch in trial.epochs],
    }


def epoch_json(epoch: Epoch, heldout: str) -> dict[str, Any]:
    """One epoch; `heldout` names the set of its second score. A loss that is no number becomes null: JSON has none."""
    scores = {
        "train_loss": epoch.train.loss,
        "train_accuracy_percent": epoch.train.accuracy,
        f"{heldout}_loss": epoch.heldout.loss,
        f"{heldout}_accuracy_percent": epoch.heldout.accuracy,
    }
    finite = {name: value if abs(value) < float("inf") else None for name, value in scores.items()}
    return {"epoch": epoch.number, **finite, "seconds": epoch.seconds}


def history_csv(history: Sequence[Epoch]) -> str:
    """`history.csv`: one line an epoch of the final training."""
    return as_csv([epoch_json(epoch, "test") for epoch in history])


def trials_csv(trials: Sequence[Trial]) -> str:
    """`trials.csv`: one line a trial; only the heading where there was no tuning. Where successive halving
    or MAX_HOURS stopped some, a column more says after how many epochs.
    """
    columns: tuple[str, ...] = (
        "trial",
        "learning_rate",
        "validation_loss",
        "best_epoch",
        "epochs",
        "failure",
        "seconds",
    )
    columns += tuple(name for ending, name in ENDINGS.items() if any(trial.ending == ending for trial in trials))
    return as_csv([{**trial_json(trial), "epochs": len(trial.epochs)} for trial in trials], columns)


def per_class_csv(evaluation: Evaluation) -> str:
    """`per_class.csv`: one line a class, in the order of the model's outputs."""
    return as_csv([{**asdict(score), "name": for_sheets(score.name)} for score in evaluation.per_class])


def for_sheets(name: str) -> str:
    """A name for a table that people open in a spreadsheet: signs that are no text are spelled out, and one that would
    be a formula there gets an apostrophe first (OWASP, CSV injection).
    """
    shown = printable(name)
    return f"'{shown}" if shown.startswith(("=", "+", "-", "@")) else shown


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    """A heading and a line each. What is no number is quoted: older Pythons leave a carriage return in a name bare."""
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, columns or list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()
