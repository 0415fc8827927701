"""A run as files: numbers, text, JSON, CSV, pictures, pages. Writes nothing itself.

In reading order: `records` (what a report is made of), `answers` (the test set's), `metrics` and `significance` (what
they say), `words` (numbers as people read them), `text`, `tables`, `markdown`, `contents` (the other files), `plots`,
`sheet` (augmented images), `seen` (what the network looked at), `templating` with `templates/`, `page` with those named
after it (report.html), `rendering` (all of a run), `comparison`, `differences`, `page_summary` and `summary` (several
runs).
"""

from __future__ import annotations

from job.report.records import RunReport


def files(report: RunReport) -> dict[str, bytes]:
    """File name → content of everything but the model's own files."""
    from job.report import rendering  # matplotlib and Jinja2 take half a second, which only a run's end needs

    return rendering.files(report)
