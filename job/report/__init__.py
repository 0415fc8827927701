"""A finished run as files: text, JSON, CSV and pictures. The only importer of matplotlib; writes nothing itself."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from job.results import Epoch, Recipe, Trial, winner

RULE = "=" * 50


@dataclass(frozen=True)
class RunReport:
    """Everything that a report tells. `settings`, `sources` and `provenance` are JSON as they stand."""

    run_name: str
    model: str
    structure: str
    parameters: int
    batch_size: int
    recipe: Recipe
    trials: tuple[Trial, ...]
    history: tuple[Epoch, ...]
    device: str
    settings: dict[str, Any]
    sources: dict[str, str]
    data: dict[str, Any]
    provenance: dict[str, Any]

    @property
    def tuning_seconds(self) -> float:
        return sum(trial.seconds for trial in self.trials)

    @property
    def training_seconds(self) -> float:
        return sum(epoch.seconds for epoch in self.history)


def files(report: RunReport) -> dict[str, bytes]:
    """File name → content of everything but the weights."""
    content = {
        "results.txt": text(report).encode(),
        "results.json": (json.dumps(as_json(report), indent=2) + "\n").encode(),
        "history.csv": history_csv(report.history).encode(),
        "trials.csv": trials_csv(report.trials).encode(),
        "training_curves.png": png(training_curves(report)),
    }
    if report.trials:
        content["tuning.png"] = png(tuning_plot(report))
    return content


def text(report: RunReport) -> str:
    """`results.txt`: four sections between rules of 50 signs."""
    last = report.history[-1].heldout
    sections = {
        "Hyper parameters": {
            "best LR": f"{report.recipe.learning_rate:.6f}",
            "best epochs": str(report.recipe.epochs),
            "batch size": str(report.batch_size),
        },
        "Model structure": {
            "model type": report.model,
            "structure": report.structure.replace("\n", "\n    "),
            "total parameters": f"{report.parameters:,}",
        },
        "Training information": {
            "duration on the full training set": duration(report.training_seconds),
            "device": report.device,
        },
        "Benchmarks on the test set": {
            "test loss": f"{last.loss:.4f}",
            "test accuracy": f"{last.accuracy:.2f}%",
        },
    }
    lines = [RULE, "Results".center(50).rstrip(), RULE]
    for heading, values in sections.items():
        lines += [f"[{heading}]", *(f"  - {name}: {value}" for name, value in values.items()), RULE]
    return "\n".join(lines) + "\n"


def duration(seconds: float) -> str:
    """`Mm Ss`, in whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s"


def as_json(report: RunReport) -> dict[str, Any]:
    """`results.json`: every number of the run."""
    best = winner(report.trials)
    last = report.history[-1].heldout
    return {
        "run": report.run_name,
        "model": {"name": report.model, "parameters": report.parameters, "structure": report.structure},
        "recipe": {
            "learning_rate": report.recipe.learning_rate,
            "epochs": report.recipe.epochs,
            "batch_size": report.batch_size,
            "chosen_by": "LEARNING_RATE and EPOCHS" if best is None else f"trial {best.number + 1}",
        },
        "test": {"loss": last.loss, "accuracy_percent": last.accuracy},
        "tuning": {
            "trials": [trial_json(trial) for trial in report.trials],
            "best_trial": None if best is None else best.number + 1,
            "seconds": report.tuning_seconds,
        },
        "training": {
            "epochs": [epoch_json(epoch, "test") for epoch in report.history],
            "seconds": report.training_seconds,
        },
        "data": report.data,
        "settings": {name: {"value": value, "source": report.sources[name]} for name, value in report.settings.items()},
        "provenance": report.provenance,
    }


def trial_json(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.number + 1,
        "learning_rate": trial.learning_rate,
        "validation_loss": None if trial.failure else trial.validation_loss,
        "best_epoch": trial.best_epoch or None,
        "failure": trial.failure or None,
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
    """`trials.csv`: one line a trial; only the heading where there was no tuning."""
    columns = ("trial", "learning_rate", "validation_loss", "best_epoch", "epochs", "failure", "seconds")
    return as_csv([{**trial_json(trial), "epochs": len(trial.epochs)} for trial in trials], columns)


def as_csv(rows: Sequence[dict[str, Any]], columns: Sequence[str] = ()) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


# Colours from Okabe and Ito, distinguishable with colour blindness (https://jfly.uni-koeln.de/color/).
TRAIN, TEST, WINNER, FAILED = "#0072B2", "#D55E00", "#009E73", "#999999"


def training_curves(report: RunReport) -> Figure:
    """Loss and accuracy after each epoch of the final training, side by side."""
    numbers = [epoch.number for epoch in report.history]
    figure = Figure(figsize=(10, 4), layout="constrained")
    figure.suptitle(
        f"{report.model} on {report.data['name']}: final training, learning rate {report.recipe.learning_rate:.6f}"
    )
    loss, accuracy = figure.subplots(1, 2)
    marker = "o" if len(numbers) < 30 else ""
    for axes, key, label in ((loss, "loss", "cross-entropy loss"), (accuracy, "accuracy", "accuracy (%)")):
        for colour, name, scores in (
            (TRAIN, "train", [epoch.train for epoch in report.history]),
            (TEST, "test", [epoch.heldout for epoch in report.history]),
        ):
            axes.plot(
                numbers,
                [getattr(score, key) for score in scores],
                color=colour,
                marker=marker,
                markersize=4,
                label=name,
            )
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    last = report.history[-1].heldout
    accuracy.set_title(f"test accuracy {last.accuracy:.2f} %", fontsize="medium")
    loss.set_title(f"test loss {last.loss:.4f}", fontsize="medium")
    return figure


def tuning_plot(report: RunReport) -> Figure:
    """The lowest validation loss of every trial over its learning rate; the winner marked, failed trials at the top."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    good = [trial for trial in report.trials if not trial.failure]
    failed = [trial for trial in report.trials if trial.failure]
    best = winner(report.trials)
    assert best is not None  # the search raises where every trial failed
    axes.scatter(
        [t.learning_rate for t in good], [t.validation_loss for t in good], color=TRAIN, label="trial", zorder=3
    )
    top = max(t.validation_loss for t in good)
    if failed:
        axes.scatter(
            [t.learning_rate for t in failed], [top] * len(failed), color=FAILED, marker="x", label="failed", zorder=3
        )
    axes.scatter(
        [best.learning_rate],
        [best.validation_loss],
        s=220,
        marker="*",
        color=WINNER,
        zorder=4,
        label=f"winner: {best.learning_rate:.6f}, epoch {best.best_epoch}, loss {best.validation_loss:.4f}",
    )
    axes.set_xscale("log")
    axes.set(
        xlabel="learning rate (log scale)",
        ylabel="lowest validation loss",
        title=f"{report.model} on {report.data['name']}: {len(report.trials)} trials",
    )
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    return figure


def png(figure: Figure) -> bytes:
    """The picture as PNG, without the version that matplotlib would write into it: equal runs give equal bytes."""
    out = io.BytesIO()
    with matplotlib.rc_context({"savefig.dpi": 144}):
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
