"""`results.txt`."""

from __future__ import annotations

from job.report.records import RunReport
from job.report.words import duration
from job.results import rate

RULE = "=" * 50


def text(report: RunReport) -> str:
    """`results.txt`: four sections between rules of 50 signs, with the labels of the notebook's own
    text, and a line more each for more than ten classes and for a recipe of its own."""
    last, top5, flipped = report.history[-1].heldout, report.evaluation.top5_accuracy, report.way.flipped
    sections = {
        "Hyper parameters": [
            f"- Best LR: {rate(report.choice.learning_rate)}",
            f"- Best epochs: {report.choice.epochs} epochs",
            f"- Batch size: {report.batch_size}",
            *([f"- Recipe: {report.recipe.name} ({report.recipe.words()})"] if report.recipe.scheduled else []),
        ],
        "Model structure": [
            f"- Model type: {report.model}",
            "- Model structure:",
            *report.structure.splitlines(),
            f"- Total params: {report.parameters:,}",
        ],
        "Training information": [
            f"- Training duration on full training set: {duration(report.training_seconds)}",
            f"- Training device: {report.device}",
            *([f"- Time limit: {report.limit.in_words}"] if report.limit else []),
        ],
        "Benchmarks on test set": [
            f"- Test loss: {last.loss:.4f}",
            f"- Test accuracy: {last.accuracy:.2f}%",
            *([f"- Top-5 test accuracy: {100 * top5:.2f}%"] if top5 is not None else []),
            *([f"- With test-time flip, beside it: {flipped.accuracy:.2f}%"] if flipped else []),
        ],
    }
    lines = [RULE, "Results".center(50).rstrip(), RULE]
    for heading, content in sections.items():
        lines += [f"[{heading}]", *(f"  {line}" for line in content), RULE]
    return "\n".join(lines) + "\n"
