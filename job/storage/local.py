"""A directory as a store."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from job.errors import Fault, TemporaryFault
from job.storage.names import checked

MAY_MEND = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ESTALE}
NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # FAT and several FUSE file systems
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
TEMPORARY = ".part"
PUT_ATTEMPTS = 10


class LocalStore:
    """Files below a directory, which is made when the first one is put there."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def uri(self) -> str:
        return str(self.root)

    def put(self, name: str, content: bytes) -> None:
        path = self._path(name)
        with faults("write", path):
            for _ in range(PUT_ATTEMPTS):
                make_directory(path.parent)
                with suppress(FileNotFoundError):  # a `delete` beside us has just removed the folder it left empty
                    write_whole(path, content)
                    return
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def get(self, name: str) -> bytes | None:
        path = self._path(name)
        with faults("read", path):
            try:
                return path.read_bytes()
            except (FileNotFoundError, NotADirectoryError):
                return None

    def list(self, prefix: str = "") -> list[str]:
        with faults("list", self.root):
            names = (path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if path.is_file())
            return sorted(name for name in names if name.startswith(prefix) and "/." not in f"/{name}")

    def delete(self, name: str) -> None:
        """Folders that this leaves empty go as well: as in a bucket, they are there for their contents only."""
        path = self._path(name)
        with faults("delete", path), suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
            sync_directory(path.parent)
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
        with faults("write", path):
            if version is None:
                make_directory(path.parent)
                return write_new(path, content)
            with locked(path) as found:
                if found is None or version_of(found) != version:
                    return False
                write_whole(path, content)
                return True

    def tidy(self) -> None:
        with faults("tidy", self.root):
            for path in self.root.rglob(f".*{TEMPORARY}"):
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self.root / checked(name)


def version_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file so that a crash at any moment leaves the old one or the new one: temporary file in the same
    directory, fsync, rename, fsync of the directory.
    """
    with temporary(path, content) as part:
        part.replace(path)
    sync_directory(path.parent)


def write_new(path: Path, content: bytes) -> bool:
    """The same where there is no such file yet; False where there is. A hard link is made or refused in one step, on
    network file systems too.
    """
    with temporary(path, content) as part:
        try:
            os.link(part, path)
        except (FileExistsError, FileNotFoundError):  # not found: who won the lock has tidied this one away
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            try:  # as sound against other writers; a crash right here, though, leaves an unfinished file
                with path.open("xb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
            except FileExistsError:
                return False
    sync_directory(path.parent)
    return True


@contextmanager
def temporary(path: Path, content: bytes) -> Iterator[Path]:
    """A durable file with `content` beside `path`, removed on leaving unless it was moved away."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=TEMPORARY, dir=path.parent)
    part = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(descriptor, 0o644)  # mkstemp's 0600 would keep other users of a mounted folder from reading it
            os.fsync(descriptor)
        yield part
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[bytes | None]:
    """The content of `path` while no other process or thread is in here for it; None where there is no such file.

    The lock is on the file itself, so that nothing else stays behind. Whoever waited for it may find that the name
    belongs to another file by then, and waits again for that one.
    """
    while True:
        try:
            file = path.open("r+b")  # for writing: NFS locks no other
        except FileNotFoundError:
            yield None
            return
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
            try:
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                same = False
            if same:
                yield file.read()
                return


def make_directory(directory: Path) -> None:
    """Makes it with its parents, durably."""
    made = [place for place in (directory, *directory.parents) if not place.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    for place in made:
        sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def faults(action: str, path: Path) -> Iterator[None]:
    """Tells a failed file operation as a fault: a retry may mend a full or failing disk, but not permissions."""
    try:
        yield
    except OSError as error:
        what = f"cannot {action} {path}: {error.strerror}."
        if error.errno in MAY_MEND:
            raise TemporaryFault(what, "Make room or mend the disk, then start the same command again.") from error
        raise Fault(what, "Name a directory in OUTPUT that this user may write to.") from error
