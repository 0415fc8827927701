"""A run as files: text, JSON, CSV, pictures, a page. The only importer of matplotlib; writes nothing itself."""

from __future__ import annotations

import json

from job.report import page
from job.report.contents import CONTENTS, listing
from job.report.markdown import markdown
from job.report.plots import confusion_matrix, mistakes, png, training_curves, tuning_plot
from job.report.records import RunReport
from job.report.tables import as_json, history_csv, per_class_csv, trial_json, trials_csv
from job.report.text import duration, text

__all__ = [
    "CONTENTS",
    "RunReport",
    "as_json",
    "confusion_matrix",
    "duration",
    "files",
    "listing",
    "markdown",
    "png",
    "text",
    "training_curves",
    "trial_json",
    "tuning_plot",
]


def files(report: RunReport) -> dict[str, bytes]:
    """File name → content of everything but the model's own files."""
    content = {
        "results.txt": text(report).encode(),
        "results.json": (json.dumps(as_json(report), indent=2) + "\n").encode(),
        "report.html": page.html(report).encode(),
        "history.csv": history_csv(report.history).encode(),
        "trials.csv": trials_csv(report.trials).encode(),
        "per_class.csv": per_class_csv(report.evaluation).encode(),
        "training_curves.png": png(training_curves(report)),
        "confusion_matrix.png": png(confusion_matrix(report.evaluation)),
    }
    if report.trials:
        content["tuning.png"] = png(tuning_plot(report))
    if report.evaluation.mistakes:
        content["mistakes.png"] = png(mistakes(report))
    return content
