"""One job at a time on a run: a lock with a heartbeat, which a dead owner cannot hold.

No clock is compared between machines: who finds a lock watches it, and takes it over when its heartbeat stands still.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from job.console.logs import event
from job.errors import Fault, TemporaryFault
from job.storage import ArtifactStore

NAME = "lock.json"


@dataclass(frozen=True)
class Timing:
    """Seconds between two heartbeats, and without one after which the owner counts as dead."""

    beat: float = 5.0
    patience: float = 20.0


@dataclass(frozen=True)
class Owner:
    """Who holds a lock. `machine` and `process` tell, on the very same machine, whether the owner still lives."""

    job: str
    host: str
    machine: str
    process: int
    started: str
    beat: int = 0

    def is_dead_here(self) -> bool:
        """Whether it ran on this machine, where its process can be looked up, and is gone."""
        return self.machine == this_machine() and start_time(self.process) != self.started


class Lock:
    """A held lock. `check()` raises once another job has taken it over, which happens to a job that was frozen."""

    def __init__(self) -> None:
        self.lost: Fault | None = None

    def check(self) -> None:
        if self.lost is not None:
            raise self.lost


@contextmanager
def held(store: ArtifactStore, check: Callable[[], object], timing: Timing = Timing()) -> Iterator[Lock]:
    """Holds the lock of the run in `store`. Raises TemporaryFault where another job is at work on it.

    `check` is called while waiting for it, and may raise to stop that.
    """
    me = Owner(uuid.uuid4().hex, socket.gethostname(), this_machine(), os.getpid(), start_time(os.getpid()))
    version = acquire(store, me, check, timing)
    lock, over = Lock(), threading.Event()

    def beat() -> None:
        nonlocal version
        mine = me
        while not over.wait(timing.beat):
            mine = replace(mine, beat=mine.beat + 1)
            try:
                store.put_if(NAME, content(mine), version)
                found = store.get_versioned(NAME)
            except TemporaryFault:
                continue  # not reachable for a while: the next beat tries again
            except Fault as fault:
                lock.lost = fault
                return
            # What is there decides, not the answer: a slow store says False to a beat that has been written.
            if found is None or owner(found[0]).job != me.job:
                lock.lost = taken_over(store)
                return
            version = found[1]

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield lock
    finally:
        over.set()
        thread.join(timing.beat)
        release(store, me, lock)


def release(store: ArtifactStore, me: Owner, lock: Lock) -> None:
    """Gives the lock back. Where the store does not answer any more, its heartbeat stands still and that must do."""
    try:
        found = None if lock.lost else store.get_versioned(NAME)
        if found is not None and owner(found[0]).job == me.job:
            store.delete(NAME)
    except Fault:
        return


def acquire(store: ArtifactStore, me: Owner, check: Callable[[], object], timing: Timing) -> str:
    """Takes the lock and returns its version; waits at most `patience` for a sign of life of another owner."""
    watched, since, told = "", time.monotonic(), False
    while True:
        check()
        found = store.get_versioned(NAME)
        if found is None:
            if store.put_if(NAME, content(me), None):
                return version_of_mine(store, me)
            continue
        other, version = owner(found[0]), found[1]
        if version != watched:
            if watched:
                raise TemporaryFault(
                    f"another job is at work on this run: {other.host}, process {other.process} ({store.uri}).",
                    "Wait for it, stop it, or choose another RUN_ID.",
                )
            watched, since = version, time.monotonic()
        if other.is_dead_here() or time.monotonic() - since >= timing.patience:
            event("lock", f"the job on {other.host}, process {other.process}, is gone; going on in its place")
            if store.put_if(NAME, content(me), version):
                return version_of_mine(store, me)
            raise taken_over(store)
        if not told:
            told = True
            event("lock", f"waiting up to {timing.patience:g} s for a sign of life of the job on {other.host}")
        time.sleep(min(timing.beat, timing.patience) / 5)


def version_of_mine(store: ArtifactStore, me: Owner) -> str:
    found = store.get_versioned(NAME)
    if found is None or owner(found[0]).job != me.job:
        raise taken_over(store)
    return found[1]


def taken_over(store: ArtifactStore) -> TemporaryFault:
    return TemporaryFault(
        f"another job has taken over this run ({store.uri}).", "Leave it to that one, or choose another RUN_ID."
    )


def content(owner: Owner) -> bytes:
    return json.dumps(asdict(owner)).encode()


def owner(content: bytes) -> Owner:
    """The owner in a lock file; one that cannot be read belongs to nobody who lives here."""
    try:
        return Owner(**json.loads(content))
    except (ValueError, TypeError):
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
