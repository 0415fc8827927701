"""How often a run writes: as often as is of use, or seldom where each write stays in the store for good."""

from __future__ import annotations

from dataclasses import dataclass

from job.console.logs import event
from job.runs.budget import NEWS
from job.runs.keeper import Patience
from job.runs.owner import Timing
from job.storage import ArtifactStore


@dataclass(frozen=True)
class Pace:
    """Heartbeats, states, and the seconds between two times that the working time is told (with MAX_HOURS)."""

    timing: Timing = Timing()
    states: Patience = Patience()
    news: float = NEWS


USUAL = Pace()
SELDOM = Pace(Timing(beat=30.0, patience=120.0), Patience(apart=60.0), news=60.0)


def pace_of(store: ArtifactStore) -> Pace:
    """`SELDOM` where what is overwritten stays and is paid for (a bucket with versioning), which is told."""
    if not store.keeps_versions():
        return USUAL
    event(
        "store",
        f"{store.uri}: the bucket keeps versions, so a state is written at most every {SELDOM.states.apart:.0f} s and "
        f"a heartbeat every {SELDOM.timing.beat:.0f} s; a kill costs up to a minute of work, a stop none",
    )
    return SELDOM
