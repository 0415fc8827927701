"""Files that a crash at any moment leaves whole: the old one or the new one."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO

from job.errors import is_permanent

NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}  # FAT and several FUSE file systems
NO_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
TEMPORARY = ".part"
LOCKED_SECONDS = 10.0  # that another process may keep a file for itself; a look and a write take milliseconds

Guard = Callable[[], object]
"""Called before every step that changes something; it may raise, which leaves that step undone."""


def unguarded() -> None:
    """Nobody minds."""


@contextmanager
def naming(call: str) -> Iterator[None]:
    """Notes in an OSError which call it was that failed, where the remedy depends on that."""
    try:
        yield
    except OSError as error:
        error.call = call  # type: ignore[attr-defined]
        raise


def write_whole(path: Path, content: bytes, guard: Guard = unguarded) -> None:
    """Writes a file so that a crash at any moment leaves the old one or the new one: temporary file in the same
    directory, fsync, rename, fsync of the directory. `guard` has the last word before the rename.
    """
    with temporary(path, content) as part:
        guard()
        with naming("rename"):
            part.replace(path)
    sync_directory(path.parent)


def write_new(path: Path, content: bytes, guard: Guard = unguarded) -> bool:
    """The same where there is no such file yet; False where there is. A hard link is made or refused in one step, on
    network file systems too.
    """
    with temporary(path, content) as part:
        guard()
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
            with suppress(OSError):  # a share has modes of its own
                os.fchmod(descriptor, 0o666 & ~umask())  # mkstemp's 0600 would keep others from a mounted folder
            os.fsync(descriptor)
        yield part
    finally:
        with suppress(OSError):  # what went wrong before is what matters
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
            keep_for_itself(file)
            try:
                same = os.path.samestat(os.fstat(file.fileno()), path.stat())
            except FileNotFoundError:
                same = False
            if same:
                yield file.read()
                return


def keep_for_itself(file: IO[bytes]) -> None:
    """Takes the file's lock. One that a frozen process holds is not waited for without end: raises TimeoutError."""
    until = time.monotonic() + LOCKED_SECONDS
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from None
            time.sleep(0.002)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            return


def make_directory(directory: Path) -> None:
    """Makes it with its parents, durably."""
    made = [place for place in (directory, *directory.parents) if not place.exists()]
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except FileExistsError:  # made by another and removed again since: whoever writes there will see
        if directory.exists() and not directory.is_dir():
            raise
    for place in made:
        sync_directory(place.parent)


def sync_directory(directory: Path) -> None:
    """Makes a new name durable, where the file system has a way to do so."""
    try:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not is_permanent(error):  # CIFS and some FUSE mounts have no such call; a failing disk is another matter
            raise


@cache
def umask() -> int:
    """This process's umask, which Python only tells by changing it; the usual 022 where the kernel does not say."""
    try:
        found = re.search(r"^Umask:\s+([0-7]+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    return int(found[1], 8) if found else 0o022
