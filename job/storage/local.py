"""A directory as a store."""

from __future__ import annotations

import errno
import hashlib
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from job.console.logs import event
from job.errors import NoRoom, TakenOver, TemporaryFault, os_fault
from job.storage.files import (
    TEMPORARY,
    Guard,
    locked,
    make_directory,
    naming,
    sync_directory,
    unguarded,
    write_new,
    write_whole,
)
from job.storage.names import checked

T = TypeVar("T")

PUT_ATTEMPTS = 10
PAUSE = 2.0  # seconds before what may pass is tried again


class LocalStore:
    """Files below a directory, which is made when the first one is put there.

    `variable` is the setting that named it, for messages; `guard` and `patience` are as `ArtifactStore.guarded` says.
    With `links` folders that are symbolic links are listed as well, each once: never where files are removed.
    """

    def __init__(
        self,
        root: Path,
        variable: str = "OUTPUT",
        guard: Guard = unguarded,
        patience: float = 0.0,
        links: bool = False,
    ) -> None:
        self.root = root
        self.variable = variable
        self.guard = guard
        self.patience = patience
        self.links = links

    @property
    def uri(self) -> str:
        return str(self.root)

    @property
    def near(self) -> bool:
        return True

    @property
    def deletes(self) -> bool:
        return True

    def guarded(self, guard: Guard, patience: float) -> LocalStore:
        return LocalStore(self.root, self.variable, guard, patience)

    def encrypted(self, how: Mapping[str, str]) -> LocalStore:
        return self

    def keeps_versions(self) -> bool:
        return False

    def put(self, name: str, content: bytes) -> None:
        path = self._path(name)

        def write() -> None:
            for _ in range(PUT_ATTEMPTS):
                make_directory(path.parent)
                with suppress(FileNotFoundError):  # a `delete` beside us has just removed the folder it left empty
                    write_whole(path, content, self.guard)
                    return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

        self._steadily("write", path, write)

    def get(self, name: str) -> bytes | None:
        path = self._path(name)

        def read() -> bytes | None:
            try:
                content: bytes | None = path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None
            if content is None:  # how Python tells EAGAIN
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return content

        return self._steadily("read", path, read)

    def list(self, prefix: str = "") -> list[str]:
        def names() -> list[str]:
            if not self.root.exists():
                return []
            found, seen = [], set()
            for folder, folders, files in os.walk(self.root, onerror=raised, followlinks=self.links):
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in seen:
                    folders.clear()
                    continue
                seen.add((status.st_dev, status.st_ino))
                folders[:] = sorted(each for each in folders if not each.startswith("."))
                place = Path(folder).relative_to(self.root)
                found += [(place / file).as_posix() for file in files if not file.startswith(".")]
            return sorted(name for name in found if name.startswith(prefix))

        return self._steadily("list", self.root, names)

    def delete(self, name: str) -> None:
        """Folders that this leaves empty go as well: as in a bucket, they are there for their contents only."""
        path = self._path(name)

        def remove() -> None:
            self.guard()
            with suppress(FileNotFoundError, NotADirectoryError):
                with naming("delete"):
                    path.unlink()
                sync_directory(path.parent)

        self._steadily("delete", path, remove)
        for folder in path.relative_to(self.root).parents[:-1]:
            try:
                (self.root / folder).rmdir()
            except OSError:
                break

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        content = self.get(name)
        return None if content is None else (content, version_of(content))

    def put_if(self, name: str, content: bytes, version: str | None) -> bool:
        """As promised by ArtifactStore. A file system without links or locks (FAT, several network mounts by FUSE)
        keeps the promise less strictly: there two writers within the same instant may both get True.
        """
        path = self._path(name)

        def write() -> bool:
            if version is None:
                make_directory(path.parent)
                return write_new(path, content, self.guard)
            with locked(path) as found:
                if found is None or version_of(found) != version:
                    return False
                write_whole(path, content, self.guard)
                return True

        return self._steadily("write", path, write)

    def put_known(self, name: str, content: bytes, version: str | None) -> str:
        """As promised by ArtifactStore, by a look right before the rename. No file is locked for it: whoever is frozen
        in that moment would keep the lock, and the next owner waiting.
        """
        path = self._path(name)

        def look() -> None:
            self.guard()
            there = self.get(name)
            if (None if there is None else version_of(there)) not in (version, version_of(content)):
                raise TakenOver(f"another job has written {path}.", "Leave this run to it, or choose another RUN_ID.")

        def write() -> None:
            make_directory(path.parent)
            write_whole(path, content, look)

        self._steadily("write", path, write)
        return version_of(content)

    def tidy(self) -> None:
        def remove() -> None:
            for path in self.root.rglob(f".*{TEMPORARY}"):
                self.guard()
                path.unlink(missing_ok=True)

        self._steadily("tidy", self.root, remove)

    def _path(self, name: str) -> Path:
        return self.root / checked(name)

    def _steadily(self, action: str, path: Path, work: Callable[[], T]) -> T:
        """What `work` returns. Tells a failed file operation as a fault, and tries again for a while what may pass."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return work()
            except OSError as error:
                call = getattr(error, "call", "read" if action in ("read", "list") else "write to")
                fault = os_fault(error, f"cannot {action} {path}", self.variable, call)
                passing = isinstance(fault, TemporaryFault) and not isinstance(fault, NoRoom)
                if not passing or time.monotonic() + PAUSE > until:
                    raise fault from error
            event("retry", f"{fault.what} Trying again for {until - time.monotonic():.0f} s.", level="WARNING")
            time.sleep(PAUSE)


def raised(error: OSError) -> None:
    raise error


def version_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
