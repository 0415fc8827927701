"""Room on a disk."""

from __future__ import annotations

import os
from pathlib import Path

from job.errors import TemporaryFault, os_faults


def lacking(variable: str, directory: Path, needed: int) -> TemporaryFault | None:
    """The fault where `needed` bytes, or another file, do not fit where `directory` is or would be made."""
    place = nearest(directory)
    remedy = f"Make room, or name another place in {variable}."
    with os_faults(f"{variable}: cannot look at {place}", variable):
        status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        return TemporaryFault(f"{variable}: {place} has {size(free)} free, about {size(needed)} are needed.", remedy)
    if status.f_files and not status.f_favail:
        return TemporaryFault(f"{variable}: {place} has no room for another file (inodes).", remedy)
    return None


def free(directory: Path) -> int:
    """Bytes that are free where `directory` is or would be made."""
    status = os.statvfs(nearest(directory))
    return status.f_bavail * status.f_frsize


def nearest(directory: Path) -> Path:
    """The directory itself, or the nearest of its parents that is there and that this user may enter."""
    places = (directory.absolute(), *directory.absolute().parents)
    return next(place for place in places if os.access(place, os.X_OK) and place.is_dir())


def size(count: float) -> str:
    """Bytes for people, in powers of 1,000 as disks are sold."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
