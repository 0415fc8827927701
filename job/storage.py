"""Where a run's files go: one small interface, and a local directory behind it."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from job.errors import Fault, TemporaryFault


class ArtifactStore(Protocol):
    """Named byte contents below one place. A name may hold `/`. Every call raises Fault or TemporaryFault."""

    @property
    def uri(self) -> str:
        """Where it is, for people."""
        ...

    def put(self, name: str, content: bytes) -> None:
        """Stores `content` whole or not at all; what was there before is replaced."""
        ...

    def get(self, name: str) -> bytes | None:
        """The content, or None where there is none of that name."""
        ...

    def list(self, prefix: str = "") -> list[str]:
        """The names that start with `prefix`, in alphabetical order."""
        ...

    def delete(self, name: str) -> None:
        """Removes it; one that is not there is no fault."""
        ...


def open_store(output: str, run_name: str) -> ArtifactStore:
    """The store for a run: the folder `run_name` below `output`."""
    if output.startswith("s3://"):
        raise Fault(f"OUTPUT={output}: S3 is not supported yet.", "Name a directory.")
    return LocalStore(Path(output) / run_name)


def open_object(url: str) -> AbstractContextManager[Any]:
    """Opens `s3://bucket/key` for reading."""
    raise Fault(f"{url}: S3 is not supported yet.", "Name an http(s) or file address.")


class LocalStore:
    """Files below a directory, which is made when the first one is put there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        return str(self.root)

    def put(self, name: str, content: bytes) -> None:
        path = self.root / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        except OSError as error:
            raise disk_fault("write", path, error) from error

    def get(self, name: str) -> bytes | None:
        path = self.root / name
        try:
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise disk_fault("read", path, error) from error

    def list(self, prefix: str = "") -> list[str]:
        names = (p.relative_to(self.root).as_posix() for p in self.root.rglob("*") if p.is_file())
        return sorted(name for name in names if name.startswith(prefix) and not Path(name).name.startswith("."))

    def delete(self, name: str) -> None:
        try:
            (self.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise disk_fault("delete", self.root / name, error) from error


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a crash at any moment leaves the old one or the new one: temporary file in the same
    directory, fsync, rename, fsync of the directory.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)  # mkstemp's 0600 would keep other users of a mounted folder from reading results
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def disk_fault(action: str, path: Path, error: OSError) -> Fault:
    """The fault for a failed file operation: a full or failing disk may be mended by a retry, permissions are not."""
    may_mend = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    if may_mend:
        return TemporaryFault(
            f"cannot {action} {path}: {error.strerror}.",
            "Make room or mend the disk, then start the same command again.",
        )
    return Fault(
        f"cannot {action} {path}: {error.strerror}.", "Name a directory in OUTPUT that this user may write to."
    )
