"""A run in a few lines of Markdown, for the page of a continuous-integration job."""

from __future__ import annotations

from job.report.records import RunReport
from job.report.text import duration


def markdown(report: RunReport, uri: str) -> str:
    """Heading, figures as a table, and where the files are."""
    last, (low, high) = report.history[-1].heldout, report.evaluation.interval
    rows = {
        "test accuracy": f"**{last.accuracy:.2f} %** (95 % interval {100 * low:.2f} to {100 * high:.2f} %)",
        "test loss": f"{last.loss:.4f}",
        "learning rate, epochs": f"{report.recipe.learning_rate:.6f}, {report.recipe.epochs}",
        "model": f"`{report.model}`, {report.parameters:,} parameters",
        "data": f"{report.data['name']}, {report.data['train_images']:,} training images",
        "search": f"{len(report.trials)} trials in {duration(report.tuning_seconds)}" if report.trials else "none",
        "training": duration(report.training_seconds),
        "device": report.device,
        "files": f"`{uri}`",
    }
    table = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items())
    return f"### Run `{report.run_name}`\n\n| | |\n|---|---|\n{table}\n"
