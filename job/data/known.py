"""The contents of files by their state, as git's index knows them: what has not changed since is not read again.

A state is device, inode, size, time of change and time of change of the inode (stat(2): st_ctime). The last one is set
by the kernel's clock at every write, rename or utime, and by no call: files that were exchanged with size and time kept
have another one. That holds

- on file systems of the kernel's own (KEPT_BY): others, on networks or in user space, make up what they do not have;
- where the clock is not set back, which takes root's rights;
- for a file that was at rest: changed again within the same tick of the clock, it would look the same. So what is
  younger than RESTED when it is read is not noted ("racy git", Documentation/technical/racy-git.txt).

Everything else is read at every start, with all cores.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from job.data.decoding import content_of, in_threads
from job.data.download import Bar

KEPT_BY = {"ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "zfs", "bcachefs", "tmpfs", "overlay"}
RESTED = 1_000_000_000  # ns
NOTED = np.dtype([("state", "<i8", 5), ("sha256", "u1", 32)])  # of a file in the cache

State = tuple[int, ...]
Known = dict[State, str]
"""SHA-256 (hex) of a file's content by its state."""


def contents(files: Sequence[Path], known: Known, bar: Bar) -> tuple[dict[Path, str], Known]:
    """The SHA-256 of each file, empty where it cannot be read; and what of it is to be noted. Files in a state that is
    `known` are not read.
    """
    began = time.time_ns()
    kept = KeptBy()
    states = {file: state for file in files if (state := state_of(file, kept))}
    found = {file: known[state] for file, state in states.items() if state in known}
    unread = [file for file in files if file not in found]
    if unread:
        found |= zip(unread, in_threads(unread, content_of, bar, "read images"), strict=True)
    at_rest = {file: state for file, state in states.items() if max(state[3:]) < began - RESTED}
    return found, {state: found[file] for file, state in at_rest.items() if found[file]}


def state_of(file: Path, kept: KeptBy) -> State | None:
    """None where nothing can be told by it."""
    try:
        status = file.stat()
    except OSError:
        return None
    if not kept.by_kernel(file, status.st_dev):
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


class KeptBy:
    """Which devices hold file systems that can be believed; each is looked for once."""

    def __init__(self, mounts: Path = Path("/proc/self/mountinfo")) -> None:
        self._devices: dict[int, bool] = {}
        try:
            lines = mounts.read_text(errors="surrogateescape").splitlines()
        except OSError:
            lines = []
        # proc_pid_mountinfo(5): id, parent, device, root, mount point, options, tags, "-", type, source, options
        self._types = {unescaped(line.split()[4]): line.partition(" - ")[2].split()[0] for line in lines}

    def by_kernel(self, file: Path, device: int) -> bool:
        if device not in self._devices:
            place = file.resolve()
            above = (str(each) for each in place.parents if str(each) in self._types)
            self._devices[device] = self._types.get(next(above, ""), "") in KEPT_BY
        return self._devices[device]


def unescaped(field: str) -> str:
    """A path as mountinfo has it, with spaces as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


def noted(known: Known) -> NDArray[np.void]:
    """As the cache keeps it."""
    rows = np.zeros(len(known), NOTED)
    if known:
        rows["state"] = list(known)
        rows["sha256"] = np.frombuffer(bytes.fromhex("".join(known.values())), np.uint8).reshape(-1, 32)
    return rows


def known_from(content: bytes) -> Known:
    """What `noted` made."""
    rows = np.frombuffer(content, NOTED)
    return {tuple(state): bytes(sha).hex() for state, sha in zip(rows["state"].tolist(), rows["sha256"], strict=True)}
