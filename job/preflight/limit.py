"""What would fit into MAX_HOURS, from a few steps that were timed."""

from __future__ import annotations

from job.console.forecast import EXPECTED_BEST_EPOCH, Work
from job.errors import Fault
from job.preflight import timing
from job.preflight.data import Counts
from job.preflight.findings import Finding, ok, warn
from job.preflight.timing import Speed
from job.runs import budget
from job.runs.budget import HOUR, Speeds
from job.search.workload import work_of
from job.settings import Settings


def findings(settings: Settings, counts: Counts, speed: Speed, workers: int) -> list[Finding]:
    """How many trials and epochs fit; nothing without a limit. Raises Fault where not even one of each does."""
    if settings.max_hours is None:
        return []
    side_by_side = min(workers, settings.max_evals)
    work = work_of(settings, counts.train, counts.test, counts.validation, side_by_side)
    speeds, limit = timing.speeds(work, speed), HOUR * settings.max_hours
    if limit < speeds.least:
        each = "one epoch of a trial, " if work.trials else ""
        raise Fault(
            f"MAX_HOURS={settings.max_hours:g} is too little: {each}one of the final training and the report take "
            f"about {speeds.least / HOUR:.2g} hours.",
            "Raise MAX_HOURS, take less data (DATA_LIMIT) or a smaller model.",
        )
    trials, epochs, wanted = fitting(work, speeds, limit)
    parts = [f"{trials} of {work.trials} trials"] * (work.trials > 0) + [f"{epochs} of {wanted} epochs"]
    fits = trials == work.trials and epochs == wanted
    told = f"about {', '.join(parts)} of the final training fit into {settings.max_hours:g} hours"
    return [ok("time limit", told) if fits else warn("time limit", told)]


def fitting(work: Work, speeds: Speeds, limit: float) -> tuple[int, int, int]:
    """Trials and epochs of the final training that fit, and how many of the latter are wanted."""
    wanted = work.final_epochs or min(EXPECTED_BEST_EPOCH, work.trial_epochs)
    if not work.trials:
        return 0, max(1, budget.fitting(limit, speeds, wanted)), wanted
    each = work.tuning_epochs / work.trials / work.workers
    trials = budget.trials_fitting(limit, speeds, each, wanted, work.trials)
    left = limit - trials * each * speeds.trial
    return trials, max(1, budget.fitting(left, speeds, wanted)), wanted
