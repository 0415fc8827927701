"""Commands with a clock, and checks that are counted."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
IMAGE = "localhost/job-check:latest"
# So that a command that hangs ends as a failure: for making the ground, for the build, for another check, for all.
GROUND, BUILD, CHECK, ALL = 10 * 60, 20 * 60, 8 * 60, 50 * 60


class Skipped(Exception):
    """Containers cannot run here; the text says why."""


def sh(
    *command: str | Path, check: bool = True, given: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What the command said, with `given` as its input. Interrupted (see `within`), it ends all that it started."""
    line = [str(part) for part in command]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if given is not None:
        options["stdin"] = subprocess.PIPE
    options = {"cwd": ROOT, **options}
    with subprocess.Popen(line, text=True, start_new_session=True, **options) as process:
        try:
            said, complained = process.communicate(given)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    done = subprocess.CompletedProcess(line, process.returncode, said or "", complained or "")
    if check and done.returncode != 0:
        what = f"{command[0]} {command[1]} … exited {done.returncode}"
        raise AssertionError(f"{what}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError where what is inside takes longer."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Checks:
    """Runs each check, says how it went and how long it took, and counts."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self.ends = time.monotonic() + ALL

    def __call__(self, name: str, check: Callable[[], object], seconds: float = CHECK) -> None:
        started = time.monotonic()
        try:
            with within(min(seconds, self.ends - started)):
                said = check()
        except Exception as error:  # a failed check must not keep the others from running
            self.failed += 1
            print(f"FAILED   {name}\n{error}", flush=True)
        else:
            self.passed += 1
            took = time.monotonic() - started
            print(f"ok       {name} ({took:.1f} s){f': {said}' if said else ''}", flush=True)
