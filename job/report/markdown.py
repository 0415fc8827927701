"""A run in a few lines of Markdown, for the page of a continuous-integration job."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from job.report.templating import render
from job.report.words import ran_on


def markdown(results: Mapping[str, Any], uri: str) -> str:
    """Heading, figures as a table, and where the files are. `results` is what results.json holds."""
    return render(
        "report.md",
        evaluation=results.get("evaluation"),  # older runs have none
        time_limit=results.get("time_limit"),
        **{name: results[name] for name in ("run", "test", "recipe", "model", "data", "tuning", "training")},
        device=ran_on(results["provenance"]),
        uri=uri,
    )
