"""A run in a few lines of Markdown, for the page of a continuous-integration job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from job.report.text import duration


def markdown(results: Mapping[str, Any], uri: str) -> str:
    """Heading, figures as a table, and where the files are. `results` is what results.json holds."""
    test, recipe, model = results["test"], results["recipe"], results["model"]
    data, tuning, ran_on = results["data"], results["tuning"], results["provenance"]
    accuracy = f"**{test['accuracy_percent']:.2f} %**"
    if "evaluation" in results:  # older runs have none
        low, high = results["evaluation"]["accuracy_interval_percent"]
        accuracy += f" (95 % interval {low:.2f} to {high:.2f} %)"
    trials = tuning["trials"]
    rows = {
        "test accuracy": accuracy,
        "test loss": f"{test['loss']:.4f}",
        "learning rate, epochs": f"{recipe['learning_rate']:.6f}, {recipe['epochs']}",
        "model": f"`{model['name']}`, {model['parameters']:,} parameters",
        "data": f"{data['name']}, {data['train_images']:,} training images",
        "search": f"{len(trials)} trials in {duration(tuning['seconds'])}" if trials else "none",
        "training": duration(results["training"]["seconds"]),
        "device": f"{ran_on['device']} ({ran_on['hardware']}, {ran_on['precision']})",
        "files": f"`{uri}`",
    }
    table = "\n".join(f"| {name} | {value.replace('|', chr(92) + '|')} |" for name, value in rows.items())
    return f"### Run `{results['run']}`\n\n| | |\n|---|---|\n{table}\n"
