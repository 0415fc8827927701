"""All files of a run that tell of it: numbers, text, tables, pictures, the page."""

from __future__ import annotations

import json

from job.report import answers, page, sheet
from job.report.plots.answers import confusion_matrix, mistakes
from job.report.plots.drawing import png
from job.report.plots.search import tuning_plot
from job.report.plots.training import training_curves
from job.report.records import RunReport
from job.report.tables import as_json, history_csv, per_class_csv, trials_csv
from job.report.text import text


def files(report: RunReport) -> dict[str, bytes]:
    """File name → content of everything but the model's own files."""
    content = texts(report) | {
        "training_curves.png": png(training_curves(report)),
        "confusion_matrix.png": png(confusion_matrix(report.evaluation)),
    }
    if report.trials:
        content["tuning.png"] = png(tuning_plot(report))
    if report.way.sheet is not None:
        content["augmented.png"] = sheet.png(report.way.sheet)
    if report.evaluation.mistakes:
        content["mistakes.png"] = png(mistakes(report))
    return content


def texts(report: RunReport) -> dict[str, bytes]:
    """Those among them that are text."""
    classes = [score.name for score in report.evaluation.per_class]
    return {
        "results.txt": text(report).encode(),
        "results.json": (json.dumps(as_json(report), indent=2) + "\n").encode(),
        "report.html": page.html(report).encode(),
        "history.csv": history_csv(report.history).encode(),
        "trials.csv": trials_csv(report.trials).encode(),
        "per_class.csv": per_class_csv(report.evaluation).encode(),
        answers.FILE: answers.as_csv(report.answers, classes).encode(),
    }
