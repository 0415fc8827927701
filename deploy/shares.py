"""`make run-all` under MAX_HOURS: one time for all models, shared by what each is predicted to cost.

What a model was given is kept in a file, so that the same command goes on with the same runs after a kill: the limit is
part of what a run is. What a model does not need goes to those after it.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

NAME = "run-all.json"
HOUR = 3600.0
LEAST = 60.0  # seconds that every model is given beside its part: to load, an epoch of each kind, the end of its budget
OUTSIDE = 15.0  # seconds of a model's time that its own limit does not see: the start, and the container's; the summary


def place(output: str) -> Path:
    """Where the file is: below OUTPUT, or in build/ where that is a bucket."""
    return (Path("build") if "://" in output else Path(output or "outputs")) / NAME


class Shares:
    """Hours for each model. `at_once` is how many run side by side, `clock` tells seconds."""

    def __init__(
        self,
        file: Path,
        hours: float,
        at_once: int,
        *,
        fresh: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._file, self._at_once, self._clock = file, at_once, clock
        self._lock = threading.Lock()
        self._began = self._told = clock()
        self._kept: dict[str, Any] = {"max_hours": hours, "seconds": 0.0, "costs": {}, "hours": {}}
        kept = {} if fresh else read(file)
        if kept.get("max_hours") == hours:
            self._kept |= kept
        self._before = float(self._kept["seconds"])

    def known(self, model: str) -> bool:
        return model in self._kept["costs"]

    def cost(self, model: str, seconds: float | None) -> None:
        """What a model is predicted to take; None where that could not be told: then as much as the others do."""
        self._kept["costs"][model] = seconds

    @property
    def left(self) -> float:
        """Seconds, over all times that the command was given."""
        return HOUR * float(self._kept["max_hours"]) - self._before - (self._clock() - self._began)

    def of(self, model: str, waiting: Sequence[str]) -> str:
        """The model's MAX_HOURS; `waiting` are those that begin after it. Decided once.

        Of the time that is left each has `LEAST`, so that a small model beside a large one is not left with nothing,
        and of the rest as large a part as it is predicted to cost.
        """
        with self._lock:
            hours: dict[str, float] = self._kept["hours"]
            if model not in hours:
                later = [name for name in waiting if name not in hours]
                costs = self._costs([model, *later])
                part = min(1.0, self._at_once * costs[model] / sum(costs.values()))
                turns = 1 + len(later) / self._at_once  # the model's own, and those of the ones after it
                left = self.left - OUTSIDE * (turns + 1)  # and the summary's
                least = min(LEAST, left / turns)
                seconds = left if part == 1.0 else least + (left - least * turns) * part
                hours[model] = round(max(seconds, 1.0) / HOUR, 5)
                self._write()
            return f"{hours[model]:g}"

    def tick(self) -> None:
        """Keeps now and then how long it has been: a kill does not reset it."""
        if self._clock() - self._told >= 5:
            with self._lock:
                self._write()

    def _costs(self, models: Sequence[str]) -> dict[str, float]:
        known = [cost for cost in self._kept["costs"].values() if cost]
        usual = sum(known) / len(known) if known else 1.0
        return {model: self._kept["costs"].get(model) or usual for model in models}

    def _write(self) -> None:
        self._told = self._clock()
        self._kept["seconds"] = self._before + self._told - self._began
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._kept, indent=2) + "\n")
        part.replace(self._file)


def read(file: Path) -> dict[str, Any]:
    """What an earlier command kept; empty where there is nothing that can be read."""
    try:
        kept = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def predicted(line: Sequence[str], environment: Mapping[str, str]) -> float | None:
    """The seconds that MODE=check tells, of `line` in `environment`; None where it tells none."""
    done = subprocess.run(line, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    for text in done.stdout.splitlines():
        try:
            event = json.loads(text)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("check") == "time" and event.get("seconds"):
            return float(event["seconds"])
    return None


def limit() -> float | None:
    """MAX_HOURS for all models together; the job itself tells what is wrong with one that is no number."""
    try:
        return float(os.environ.get("MAX_HOURS", "") or "none")
    except ValueError:
        return None
