"""`results.txt`."""

from __future__ import annotations

from job.report.records import RunReport
from job.report.words import duration
from job.results import rate

RULE = "=" * 50


def text(report: RunReport) -> str:
    """`results.txt`: four sections between rules of 50 signs."""
    last = report.history[-1].heldout
    sections = {
        "Hyper parameters": {
            "best LR": rate(report.recipe.learning_rate),
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
