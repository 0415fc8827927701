"""What the time of a run with MAX_HOURS went into, as one bar."""

from __future__ import annotations

from dataclasses import dataclass

from job.report.records import RunReport

COLOURS = ("faint", "blue", "green", "orange")


@dataclass(frozen=True)
class Part:
    """`share` is of the limit; `colour` is the page's own name of it."""

    name: str
    seconds: float
    share: float
    colour: str


@dataclass(frozen=True)
class TimeUse:
    """What fitted, in words, and the bar's parts."""

    in_words: str
    parts: tuple[Part, ...]


def use(report: RunReport) -> TimeUse | None:
    """Loading (with what kills cost), search, training, and the answers; the rest of the limit is left over or went
    into this page. None without a limit.
    """
    limit = report.limit
    if limit is None:
        return None
    names = ("data", "search", "training", "report")
    seconds = (limit.loading_seconds, report.tuning_seconds, report.training_seconds, limit.answers_seconds)
    whole = max(3600 * limit.hours, sum(seconds))
    parts = zip(names, seconds, COLOURS, strict=True)
    return TimeUse(limit.in_words, tuple(Part(name, each, each / whole, colour) for name, each, colour in parts))
