"""Who holds a run's lock, how long they may be silent, and whether they still live."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from job.runs.shapes import NUMBER, mismatch
from job.storage import ArtifactStore

SLOW_SECONDS = 1.0  # an answer that takes longer is worth a word
OWNER = {"job": str, "host": str, "machine": str, "process": int, "started": str, "beat": int, "patience": NUMBER}
PATIENCE_MOST = 600.0  # of what an owner may ask of others: its file may be damaged


@dataclass(frozen=True)
class Timing:
    """Seconds between two heartbeats, and without one after which the owner counts as dead."""

    beat: float = 5.0
    patience: float = 20.0

    def with_answers_of(self, seconds: float) -> Timing:
        """Several heartbeats fit into the patience, each a look and a write that take `seconds` to be answered, and so
        does taking the lock.
        """
        return replace(self, patience=max(self.patience, 4 * self.beat + 12 * seconds))

    @property
    def trust(self) -> float:
        """How long after its last heartbeat the owner still writes: others wait a quarter longer than this."""
        return 0.75 * self.patience


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. `machine` and `process` tell, on the very same machine, whether the owner still lives;
    `patience` is how long it may be silent (seconds).
    """

    job: str
    host: str
    machine: str
    process: int
    started: str
    beat: int = 0
    patience: float = 0.0

    def is_dead_here(self) -> bool:
        """Whether it ran on this machine, where its process can be looked up, and is gone."""
        return self.machine == this_machine() and start_time(self.process) != self.started


@dataclass
class Clock:
    """How long a store takes to answer: the longest of the last few times, in seconds."""

    seconds: list[float] = field(default_factory=list)

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = boot_time()
        yield
        self.seconds = [*self.seconds[-4:], boot_time() - started]

    @property
    def answer(self) -> float:
        return max(self.seconds, default=0.0)


def slowness(store: ArtifactStore, clock: Clock) -> str:
    return f"{store.uri} takes {clock.answer:.1f} s to answer"


def patiently(timing: Timing) -> str:
    return f"a job on this run counts as dead after {timing.patience:.0f} s without a heartbeat"


def boot_time() -> float:
    """Seconds since boot, those of a suspended machine included, which time.monotonic leaves out on Linux."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def owner(content: bytes) -> Owner:
    """The owner in a lock file; one that cannot be read belongs to nobody who lives here."""
    try:
        found = Owner(**json.loads(content))
        if not mismatch(asdict(found), OWNER, ""):
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    return Owner("", "an unknown host", "", 0, "")


def this_machine() -> str:
    """Names the kernel and the process namespace: where both are the same, a process number means the same process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return uuid.uuid4().hex  # no such files here: nothing can be said, so no owner counts as dead by this


def start_time(process: int) -> str:
    """When a process started, in ticks since boot; empty where it does not live (proc(5), fields 3 and 22)."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]  # zombies have a number still, but do nothing any more
