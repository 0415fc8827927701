"""Steps in processes of their own, one after the other within a budget: a crash or a hang costs its own step alone.

A step writes what it finds as notes, one JSON object a line, so that nothing is lost where it is cut off.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ENOUGH = 5.0  # seconds: with less than that left no step is begun
OUTCOMES = ("passed", "failed", "cut off", "skipped")


@dataclass(frozen=True)
class Step:
    """What runs: `command` begins with a Python module's name. `seconds` is an estimate, `limit` when it is ended."""

    name: str
    title: str
    seconds: float
    limit: float
    command: tuple[str, ...]


@dataclass(frozen=True)
class Note:
    """A row of a table. `passed` is None for what was measured and cannot fail; a later note of one key replaces it."""

    table: str
    row: dict[str, Any]
    passed: bool | None = None
    key: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a step ended: one of OUTCOMES, why, its seconds, and what it had noted by then."""

    step: Step
    outcome: str
    why: str
    seconds: float
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True)
class Notes:
    """Where a step writes what it finds."""

    file: Path
    _printed: dict[str, dict[str, Any]] = field(default_factory=dict)  # by key: what was said of a row already

    def add(self, table: str, row: dict[str, Any], passed: bool | None = None, key: str = "") -> None:
        """Writes a row at once and prints it."""
        with self.file.open("a") as out:
            out.write(json.dumps(asdict(Note(table, row, passed, key))) + "\n")
        mark = {True: "ok  ", False: "FAIL", None: "    "}[passed]
        before = self._printed.get(key, {})
        new = {name: value for name, value in row.items() if before.get(name) != value}
        told = "  ".join(f"{name}={value}" for name, value in new.items() if not isinstance(value, (list, dict)))
        if key:
            told = f"{key}: {told}"
            self._printed[key] = dict(row)
        print(f"  {mark} {table}: {told}", flush=True)

    def skip(self, what: str, why: str) -> None:
        self.add("skipped", {"what": what, "why": why})


def read_notes(file: Path) -> tuple[Note, ...]:
    """The notes in `file`, in the order of their first writing; a line that was cut off in the middle is left out."""
    found: dict[str, Note] = {}
    lines = file.read_text().splitlines() if file.is_file() else []
    for number, line in enumerate(lines):
        try:
            note = Note(**json.loads(line))
        except ValueError:
            continue
        found[note.key or str(number)] = note
    return tuple(found.values())


@dataclass
class Budget:
    """Seconds for all steps together."""

    seconds: float
    started: float = field(default_factory=time.monotonic)

    @property
    def left(self) -> float:
        return self.seconds - (time.monotonic() - self.started)


def run_all(
    steps: Sequence[Step], budget: Budget, scratch: Path, log: Path, after: Callable[[list[Outcome]], object]
) -> list[Outcome]:
    """Runs the steps in order; one that no longer fits is skipped, and the next that does has its turn.

    `after` is called with all outcomes so far whenever there is a new one.
    """
    outcomes: list[Outcome] = []
    for step in steps:
        if budget.left < max(step.seconds, ENOUGH):
            why = f"it takes about {step.seconds:.0f} s and {max(0.0, budget.left):.0f} s of the budget are left"
            outcomes.append(Outcome(step, "skipped", why, 0.0))
        else:
            print(f"{step.name}: {step.title} (about {step.seconds:.0f} s)", flush=True)
            outcomes.append(run(step, min(step.limit, budget.left), scratch / f"{step.name}.notes", log))
        last = outcomes[-1]
        print(f"{step.name}: {last.outcome.upper()} after {last.seconds:.1f} s {last.why}".rstrip(), flush=True)
        after(outcomes)
    return outcomes


def run(step: Step, limit: float, file: Path, log: Path) -> Outcome:
    """One step, ended with all its processes after `limit` seconds. What it prints is added to `log` and printed."""
    started = time.monotonic()
    with log.open("a") as out:
        out.write(f"=== {step.name}: {step.title}\n")
    command = [sys.executable, "-u", "-m", *step.command, "--notes", str(file)]
    tee = Tee(log)
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(":")},
        stdin=subprocess.DEVNULL,
        stdout=tee.writer,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    ) as process:
        tee.started()
        try:
            code: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:  # also where this program is stopped: nothing goes on without it
            end_group(process)
    tee.close()
    outcome, why = judge(code, limit, notes := read_notes(file))
    return Outcome(step, outcome, why, time.monotonic() - started, notes)


def judge(code: int | None, limit: float, notes: Iterable[Note]) -> tuple[str, str]:
    """The outcome for an exit code (None: it was ended after `limit` seconds), and why."""
    wrong = [note for note in notes if note.passed is False]
    why = "; ".join(headline(note) for note in wrong)
    if code is None:
        return ("failed" if wrong else "cut off"), "; ".join(filter(None, [f"ended after {limit:.0f} s", why]))
    if code != 0:
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return "failed", "; ".join(filter(None, [how, why]))
    if wrong:
        return "failed", why
    left_out = [note for note in notes if note.table == "skipped"]
    if left_out and len(left_out) == len(tuple(notes)):
        return "skipped", "; ".join(f"{note.row['what']}: {note.row['why']}" for note in left_out)
    return "passed", ""


def headline(note: Note) -> str:
    """A row in a few words: its texts, the first three."""
    texts = [str(value) for value in note.row.values() if isinstance(value, str) and value]
    return f"{note.table}: {', '.join(texts[:3])}"


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends the step's process and whatever it started and left: all of them are in a session of their own."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Tee:
    """A pipe whose other end goes to this terminal and to a file."""

    LIMIT = 8_000_000  # bytes of one step: the log stays a file that can be sent

    def __init__(self, log: Path) -> None:
        read, self.writer = os.pipe()
        self._read = os.fdopen(read, "rb", buffering=0)
        self._log = log
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def started(self) -> None:
        """The child has its end: ours is closed, so that the pipe ends with the child."""
        os.close(self.writer)

    def _copy(self) -> None:
        written = 0
        with self._log.open("ab") as out:
            while chunk := self._read.read(65_536):
                sys.stdout.buffer.write(chunk)
                sys.stdout.flush()
                if written < self.LIMIT:
                    out.write(chunk)
                    out.flush()
                written += len(chunk)

    def close(self) -> None:
        self._thread.join(5)
        if not self._thread.is_alive():
            self._read.close()
