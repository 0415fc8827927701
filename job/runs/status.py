"""`status.json`: where a run stands and what its last attempt met, for whoever looks at it from outside."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from job.console.logs import event
from job.errors import Fault, TakenOver
from job.interrupt import Stop
from job.runs import shapes
from job.runs.standing import FINAL, Standing
from job.storage import ArtifactStore

NAME = "status.json"
FINISHED = "finished"
WORKED = "worked_seconds"
TERMINATION_LOG = Path("/dev/termination-log")  # Kubernetes shows it as the container's termination message
LAST_SECONDS = 8.0  # for the last word of an attempt


def read(store: ArtifactStore) -> dict[str, Any]:
    """The status as it stands; empty where there is none. Raises ValueError where it is damaged."""
    return read_versioned(store)[0]


def read_versioned(store: ArtifactStore) -> tuple[dict[str, Any], str | None]:
    found = store.get_versioned(NAME)
    if found is None:
        return {}, None
    try:
        return shapes.parsed(found[0], shapes.STATUS), found[1]
    except ValueError as error:
        raise ValueError(f"{store.uri}/{NAME} is damaged: {error}") from None


class Status:
    """The run's status. `tell` says what has changed; a thread writes it, so that no store holds up the work.

    A context manager. What cannot be written is a warning: the status is for people, the run does not need it.
    """

    def __init__(self, store: ArtifactStore, stop: Stop) -> None:
        """`store` is the owner's own: once the run is another's, nothing is written here any more."""
        self._store = store
        self._stop = stop
        try:
            before, self._version = read_versioned(store)
        except ValueError as error:
            event("status", f"{error}; it is written anew", level="WARNING")
            found = store.get_versioned(NAME)
            before, self._version = {}, found[1] if found else None
        self._content: dict[str, Any] = {
            "phase": "start",
            "attempt": int(before.get("attempt", 0)) + 1,
            "progress": before.get("progress", {}),
            "last_error": before.get("last_error"),
        }
        self._changed = threading.Condition()
        self._waiting = self._closed = self._warned = False
        self._written = b""  # as it was stored last: the same again is no news
        self._thread = threading.Thread(target=self._write_all, name="status", daemon=True)

    def __enter__(self) -> Status:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """What was told last is written before it returns, unless that takes too long."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(min(LAST_SECONDS, self._stop.remaining()))

    @property
    def attempt(self) -> int:
        return int(self._content["attempt"])

    def stands(self, standing: Standing) -> None:
        """Tells how far the state that has just become durable goes."""
        phase = "train" if standing.part == FINAL else "tune"
        self.tell(phase, trials_finished=len(standing.trials), epochs_of_part=standing.epochs_of_part)

    def tell(self, phase: str, **progress: Any) -> None:
        """Tells phase (`data`, `tune`, `train`, `report`, `finished`, `stopped`, `failed`) and numbers of progress."""
        with self._changed:
            self._update({"phase": phase, "progress": self._content["progress"] | progress})

    @property
    def worked(self) -> float:
        """Seconds of work that earlier attempts told of; only a run with MAX_HOURS does."""
        told = self._content["progress"].get(WORKED, 0.0)
        return float(told) if isinstance(told, int | float) else 0.0

    def works(self, seconds: float) -> None:
        """Tells how long the run has worked, over all attempts."""
        with self._changed:
            self._update({"progress": self._content["progress"] | {WORKED: round(seconds, 1)}})

    def limited(self, words: str) -> None:
        """Tells what MAX_HOURS has cut."""
        with self._changed:
            self._update({"time_limit": words})

    def computes_on(self, hardware: str, changes: Sequence[str]) -> None:
        """Tells what the run computes on, and when that was something else (see `Identity.changes`)."""
        with self._changed:
            self._update({"hardware": hardware, "changes": list(changes)})

    def doubts(self, sentences: Sequence[str]) -> None:
        """Tells what makes the data set doubtful: test images that are trained on, classes of few images."""
        if sentences:
            with self._changed:
                self._update({"warnings": list(sentences)})

    def failed(self, what: str, remedy: str, exit_code: int) -> None:
        """Tells what ended this attempt."""
        phase = "stopped" if exit_code > 128 else "failed"
        error = {"attempt": self.attempt, "what": what, "remedy": remedy, "exit_code": exit_code}
        with self._changed:
            self._update({"phase": phase, "last_error": error})

    def _update(self, changes: dict[str, Any]) -> None:
        self._content |= changes
        self._waiting = True
        self._changed.notify_all()

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                self._waiting = False
                content = (json.dumps(self._content, indent=2) + "\n").encode()
            if content == self._written:
                continue
            try:
                self._version = self._store.put_known(NAME, content, self._version)
                self._warned, self._written = False, content
            except TakenOver:
                return  # not even this may be said any more
            except Fault as fault:
                if not self._warned:
                    event("status", f"the status is not up to date: {fault.what}", level="WARNING")
                self._warned = True
                self._look_again()

    def _look_again(self) -> None:
        """The version as it is now: the last write may have got there though its answer was lost."""
        try:
            found = self._store.get_versioned(NAME)
            self._version = found[1] if found else None
        except Fault:
            return


def write_termination_log(line: str, path: Path = TERMINATION_LOG) -> None:
    """The job's last line, where the platform has a place for it."""
    if path.exists():
        try:
            path.write_text(line + "\n")
        except OSError:
            return
