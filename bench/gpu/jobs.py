"""The job as a process of its own, and what a finished run says."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bench.gpu.steps import ROOT
from job.settings import variables

FIGURES = ("recipe", "test", "evaluation", "tuning", "training")  # of results.json: what must be equal


@dataclass(frozen=True)
class Ended:
    """A job's exit code (negative: the signal that ended it), what it printed, and its seconds."""

    code: int
    output: str
    seconds: float

    @property
    def last(self) -> str:
        """The end of its output, for whoever looks for why it failed."""
        return " | ".join(self.output.strip().splitlines()[-3:])[-600:]

    def says(self, event: str) -> list[dict[str, Any]]:
        """Its events of this name."""
        lines = [json.loads(line) for line in self.output.splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without the job's variables, and with these."""
    ours = {name.upper() for name in variables()}
    kept = {name: value for name, value in os.environ.items() if name not in ours}
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return kept | {"PYTHONPATH": path, "LOG_FORMAT": "json", "PROGRESS": "off"} | dict(settings)


@contextmanager
def started(
    home: Path, settings: Mapping[str, str], before: tuple[str, ...] = ()
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], Ended]]]:
    """The job at work in `home`, and what waits for its end. Its output goes to a file: a full pipe would stop it."""
    begun = time.monotonic()
    with (
        tempfile.TemporaryFile("w+b") as output,
        subprocess.Popen(
            [*before, sys.executable, "-m", "job"],
            cwd=home,
            env=environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):

        def ended() -> Ended:
            process.wait()
            seconds = time.monotonic() - begun
            output.seek(0)
            return Ended(process.returncode, output.read().decode(errors="replace"), seconds)

        yield process, ended


def run(home: Path, settings: Mapping[str, str], before: tuple[str, ...] = ()) -> Ended:
    """The job to its end."""
    with started(home, settings, before) as (_, ended):
        return ended()


def run_until_killed(home: Path, settings: Mapping[str, str], status: Path, phase: str) -> Ended:
    """The job, killed with SIGKILL as soon as its status says that a state within a part of `phase` is durable."""
    with started(home, settings) as (process, ended):
        while process.poll() is None:
            try:
                told = json.loads(status.read_text())
            except (OSError, ValueError):
                told = {}
            if told.get("phase") == phase and told.get("progress", {}).get("epochs_of_part", 0) >= 1:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.01)
        return ended()


def results(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "results.json").read_text())
    return content


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs: weights that are not torch.equal, figures but for those of a clock."""
    mine, theirs = (torch.load(run / "weights.pt", map_location="cpu", weights_only=True) for run in (one, other))
    found = [f"weights {name}" for name in mine.keys() ^ theirs.keys()]
    found += [name for name in mine.keys() & theirs.keys() if not torch.equal(mine[name], theirs[name])]
    left, right = (without_clock(results(run)) for run in (one, other))
    return sorted(found) + [name for name in FIGURES if left[name] != right[name]]


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if not key.endswith("seconds")}
    return [without_clock(item) for item in value] if isinstance(value, list) else value
