"""A fetched data set in DATA_DIR: made beside its place, which it takes whole, with a record of what it is.

`birds/` is the data set, with `.fetched.json` in it; `.birds.part/` is being made, `.birds.old/` is on its way out,
and `.birds.lock` is held by the one job that does so.
"""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from job.console.logs import event, printable
from job.errors import Fault, os_fault, os_faults
from job.storage.files import NO_LOCKS

RECORD = ".fetched.json"
FORMAT = 1
LOOK_SECONDS = 0.2  # between two looks at whether another job is done
BUSY = (errno.EACCES, errno.EAGAIN)


@dataclass(frozen=True)
class Place:
    """Where a data set called `name` is kept below `directory`."""

    directory: Path
    name: str

    @property
    def root(self) -> Path:
        return self.directory / self.name

    def beside(self, ending: str) -> Path:
        return self.directory / f".{self.name}{ending}"

    @property
    def part(self) -> Path:
        return self.beside(".part")

    def record(self, addresses: tuple[str, ...]) -> dict[str, Any] | None:
        """What was fetched here from one of these addresses; None where nothing was.

        Raises Fault where something else is in its place: nothing of the user's is replaced.
        """
        with os_faults(f"DATA_DIR: cannot read {printable(str(self.root))}", "DATA_DIR"):
            try:
                said = json.loads((self.root / RECORD).read_bytes())
            except (FileNotFoundError, ValueError):
                said = None
            except NotADirectoryError:
                said = None
            there = self.root.exists() or self.root.is_symlink()
        known = isinstance(said, dict) and said.get("format") == FORMAT
        if known and said.get("address") in addresses:
            return dict(said)
        if not there:
            return None
        whose = f"was fetched from {printable(str(said['address']))}" if known else "was not fetched by this job"
        raise Fault(
            f"DATA_DIR: {printable(str(self.root))} {whose}, and DATA_URL would take its place.",
            "Name another DATA_DIR, or remove it; to use it as it is leave DATA_URL unset.",
        )

    @contextmanager
    def locked(self, poll: Callable[[], object]) -> Iterator[None]:
        """Held by one job of a machine, or of a file system that knows locks, at a time. `poll` may raise."""
        told = False
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            file = self.beside(".lock").open("a")
        except OSError as error:
            raise self.unwritable(error) from error
        with file:
            while True:
                poll()
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except OSError as error:
                    if error.errno in NO_LOCKS:
                        break
                    if error.errno not in BUSY:
                        raise self.unwritable(error) from error
                if not told:
                    event("data", f"another job fetches {self.root}: waiting for it")
                told = True
                time.sleep(LOOK_SECONDS)
            self.restore()
            yield

    def restore(self) -> None:
        """What a job left that was killed while it exchanged the old for the new."""
        old = self.beside(".old")
        try:
            if old.exists() and not self.root.exists():
                old.rename(self.root)
            elif old.exists():
                shutil.rmtree(old)
        except OSError as error:
            raise self.unwritable(error) from error

    def put(self, record: dict[str, Any]) -> None:
        """Moves what was made to its place, with its record; what was there goes."""
        old = self.beside(".old")
        try:
            (self.part / RECORD).write_text(json.dumps({"format": FORMAT, **record}))
            if self.root.exists():
                self.root.rename(old)
            self.part.rename(self.root)
            shutil.rmtree(old, ignore_errors=True)
        except OSError as error:
            raise self.unwritable(error) from error

    def unwritable(self, error: OSError) -> Fault:
        return os_fault(error, f"DATA_DIR: {printable(str(self.directory))} cannot be written", "DATA_DIR")
