"""`status.json`: where a run stands and what its last attempt met, for whoever looks at it from outside."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from job.errors import Fault
from job.storage import ArtifactStore

NAME = "status.json"
TERMINATION_LOG = Path("/dev/termination-log")  # Kubernetes shows it as the container's termination message


class Status:
    """The run's status; `tell` writes what has changed."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._writing = threading.Lock()  # states are told by the thread that writes checkpoints, too
        found = store.get(NAME)
        try:
            before = json.loads(found) if found else {}
        except ValueError:
            before = {}
        self._content: dict[str, Any] = {
            "phase": "start",
            "attempt": int(before.get("attempt", 0)) + 1,
            "progress": before.get("progress", {}),
            "last_error": before.get("last_error"),
        }

    @property
    def attempt(self) -> int:
        return int(self._content["attempt"])

    def tell(self, phase: str, **progress: Any) -> None:
        """Writes phase (`data`, `tune`, `train`, `report`, `finished`, `stopped`, `failed`) and numbers of progress."""
        with self._writing:
            self._content |= {"phase": phase, "progress": self._content["progress"] | progress}
            self._write()

    def failed(self, what: str, remedy: str, exit_code: int) -> None:
        """Writes what ended this attempt. A store that cannot be written may be what failed: no fault of its own."""
        phase = "stopped" if exit_code > 128 else "failed"
        error = {"attempt": self.attempt, "what": what, "remedy": remedy, "exit_code": exit_code}
        self._content |= {"phase": phase, "last_error": error}
        try:
            self._write()
        except Fault:
            return

    def _write(self) -> None:
        self._store.put(NAME, (json.dumps(self._content, indent=2) + "\n").encode())


def write_termination_log(line: str, path: Path = TERMINATION_LOG) -> None:
    """The job's last line, where the platform has a place for it."""
    if path.exists():
        try:
            path.write_text(line + "\n")
        except OSError:
            return
