"""A run in a few lines of Markdown, for the page of a continuous-integration job."""

from __future__ import annotations

from job.report.records import RunReport
from job.report.templating import render


def markdown(report: RunReport, uri: str) -> str:
    """Heading, figures as a table, and where the files are."""
    last, (low, high) = report.history[-1].heldout, report.evaluation.interval
    return render(
        "report.md",
        run_name=report.run_name,
        accuracy_percent=f"{last.accuracy:.2f}",
        low=low,
        high=high,
        test_loss=last.loss,
        recipe=report.recipe,
        model=report.model,
        parameters=report.parameters,
        data_name=report.data["name"],
        train_images=report.data["train_images"],
        trials=len(report.trials),
        tuning_seconds=report.tuning_seconds,
        training_seconds=report.training_seconds,
        device=report.device,
        uri=uri,
    )
