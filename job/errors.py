"""What can go wrong for a person, and the exit code that tells a scheduler whether to try again.

Exit codes follow sysexits.h: 78 is EX_CONFIG, 75 is EX_TEMPFAIL, 65 is EX_DATAERR.
"""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


class Fault(Exception):
    """A fault that a retry cannot mend: settings, data set, permissions, a missing bucket.

    `what` names what happened and where (variable or file); `remedy` says what to do about it.
    Both are shown to the user, so neither may hold a secret.
    """

    exit_code = 78

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  {self.remedy}" if self.remedy else self.what


class TemporaryFault(Fault):
    """A fault that a retry may mend: network, store not reachable, disk full. State is kept."""

    exit_code = 75


class NotGoodEnough(Fault):
    """A run that is finished and published, but whose accuracy is below what was asked for."""

    exit_code = 65


class NoRoom(TemporaryFault):
    """A full disk or quota: a later start may find room, but no waiting within this one makes any."""


class TakenOver(TemporaryFault):
    """Another job holds this run now: whoever meets this may not write to it any more, not even that it has failed."""


def not_installed(variable: str, package: str, command: str) -> Fault:
    """The fault of a setting that needs an optional package which is not there."""
    return Fault(f"{variable} is set, but {package} is not installed.", f"Install it: {command}; or unset {variable}.")


class Interrupted(Exception):
    """A signal asked the job to stop. State is kept; the exit code is 128 + the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.exit_code = 128 + signum


def first_line(error: BaseException) -> str:
    """What an exception says, in a line; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


# ---- what the operating system refuses: one table for every file that the job reads or writes ----


@dataclass(frozen=True)
class Refusal:
    """What a system call's error means: the fault it is, and what to do, with the variable that named the place."""

    fault: type[Fault]
    remedy: str


AGAIN = "start the same command again: it goes on from where it stood"
ALLOWED = Refusal(
    Fault,
    "Name a place in {variable} that this user may {action}; id and ls -ld show who may. A folder that Docker made "
    'belongs to root: sudo chown -R "$(id -u)" it, and add --user "$(id -u):$(id -g)" to docker run.',
)
NAMES = Refusal(Fault, "Name a place in {variable} whose file system takes this name.")
WAY = Refusal(Fault, "Correct the path in {variable}: a part of it is not what it is taken for.")
LACKS = Refusal(
    Fault,
    "This file system lacks what a store needs (write, rename over a file, delete). Name another directory in "
    "{variable}; where a bucket is mounted there, write to it directly: s3://bucket/prefix.",
)
ROOM = Refusal(NoRoom, f"Make room (bytes or files: df -h, df -i), or raise the quota, then {AGAIN}.")
MOUNT = Refusal(TemporaryFault, f"The mount or share has dropped out: check it and the network to it, then {AGAIN}.")
DISK = Refusal(TemporaryFault, f"Check the disk or share (dmesg names its errors), then {AGAIN}.")
MACHINE = Refusal(TemporaryFault, f"Give the job more memory or open files (ulimit -n), then {AGAIN}.")
ELSE = Refusal(TemporaryFault, f"It may pass: {AGAIN}. Where it does not, name another place in {{variable}}.")

REFUSALS: Mapping[int, Refusal] = {
    # what no waiting mends: 78
    errno.EACCES: ALLOWED,
    errno.EPERM: ALLOWED,
    errno.EROFS: Refusal(Fault, "It is read-only: mount it for writing, or name another place in {variable}."),
    errno.ENOTDIR: WAY,
    errno.EISDIR: WAY,
    errno.ELOOP: WAY,
    errno.ENAMETOOLONG: NAMES,
    errno.EILSEQ: NAMES,
    errno.EINVAL: Refusal(
        Fault,
        "The file system refuses this name or call. Name another directory in {variable}; where a bucket is mounted "
        "there, write to it directly: s3://bucket/prefix.",
    ),
    errno.ENODEV: LACKS,
    errno.ENOSYS: LACKS,
    errno.EOPNOTSUPP: LACKS,
    errno.EFBIG: Refusal(Fault, "The file system or ulimit -f takes no file of this size: name another in {variable}."),
    # what may pass, each with its own remedy: 75
    errno.ENOSPC: ROOM,
    errno.EDQUOT: ROOM,
    errno.ENOMEM: MACHINE,
    errno.EMFILE: MACHINE,
    errno.ENFILE: MACHINE,
    **dict.fromkeys(
        (
            *(errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH),
            *(errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ENETRESET, errno.EPIPE, errno.ESHUTDOWN),
            *(errno.ESTALE, errno.ENXIO, getattr(errno, "EREMOTEIO", errno.EIO), getattr(errno, "ENOLINK", errno.EIO)),
        ),
        MOUNT,
    ),
    errno.EIO: DISK,
}


# Calls that a file system refuses with these where it has no such call at all: FUSE mounts of buckets above all.
NEEDED = ("rename", "delete")
NO_SUCH_CALL = (errno.EPERM, errno.EINVAL)


def os_fault(error: OSError, doing: str, variable: str, call: str = "write to") -> Fault:
    """The fault to tell for what a system call refused, with the exit code that it deserves.

    `doing` is what was tried and where, as in "cannot write /outputs/run/results.json"; `variable` is the setting that
    named the place; `call` is one of NEEDED, or what the user must be allowed: "read", "write to". What is not in the
    table is taken for something that passes.
    """
    lacks = call in NEEDED and error.errno in NO_SUCH_CALL
    refusal = LACKS if lacks else REFUSALS.get(error.errno or 0, ELSE)
    reason = os.strerror(error.errno) if error.errno else str(error) or type(error).__name__
    return refusal.fault(
        f"{doing}: {reason}.", refusal.remedy.format(variable=variable, action="write to" if call in NEEDED else call)
    )


def is_permanent(error: OSError) -> bool:
    """Whether no waiting mends it."""
    return REFUSALS.get(error.errno or 0, ELSE).fault is Fault


@contextmanager
def os_faults(doing: str, variable: str, call: str = "read") -> Iterator[None]:
    """Tells what system calls refuse in here as a fault; see `os_fault`."""
    try:
        yield
    except OSError as error:
        raise os_fault(error, doing, variable, call) from error


# ---- what the machine refuses ----


OLDEST_TORCH = (2, 6)
"""What `make test-oldest` holds: torch 2.6.0 with torchvision 0.21.0."""


def check_torch() -> None:
    """Raises Fault where the torch that is installed is older than OLDEST_TORCH. It is not loaded: an older one may
    lack what this job names at its import. None at all is told by that import.
    """
    try:
        found = version("torch")
    except PackageNotFoundError:
        return
    numbers = re.match(r"(\d+)\.(\d+)", found)
    if numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_TORCH:
        raise Fault(
            f"torch {found} of this Python ({sys.executable}) is older than 2.6, the oldest that this job runs on.",
            "Run make install, then make run; or install torch 2.6.0 with torchvision 0.21.0, or a newer pair.",
        )


def as_fault(error: Exception) -> Fault | None:
    """The fault that an exception of Python or torch stands for where the machine refused something; None for a bug."""
    text = str(error)
    if isinstance(error, Fault):
        return error
    if isinstance(error, ModuleNotFoundError) and not f"{error.name}.".startswith("job."):
        return Fault(
            f"this Python ({sys.executable}) lacks the package {error.name}.",
            "Run make install, then .venv/bin/python -m job, or make run.",
        )
    if isinstance(error, OSError) and error.errno == errno.ENOMEM and error.filename is None:
        error = MemoryError()
    if isinstance(error, MemoryError) or "DefaultCPUAllocator" in text or "Cannot allocate memory" in text:
        return TemporaryFault(
            "the memory was not enough.",
            "Raise the memory limit (docker run --memory, resources.limits.memory, ulimit -v), or take less: "
            "WORKERS, BATCH_SIZE, DATA_LIMIT.",
        )
    if isinstance(error, OSError) and error.errno in REFUSALS and error.filename is not None:
        place = f"cannot use {error.filename}"  # in a place where nobody expected it: a mount that has dropped out
        return os_fault(error, place, "the variable that named it", "read and write")
    if "can't start new thread" in text or (isinstance(error, OSError) and error.errno == errno.EAGAIN):
        return TemporaryFault(
            "no more threads or processes may be started here.",
            "Raise the limit (docker run --pids-limit, ulimit -u), or lower WORKERS and OMP_NUM_THREADS. A Docker "
            "older than 20.10.10 refuses them to newer images altogether: update it.",
        )
    return None
