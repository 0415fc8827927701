"""Room on the disk: for checkpoints and results in OUTPUT, and for the data set in DATA_DIR."""

from __future__ import annotations

import os
from pathlib import Path

from job.errors import TemporaryFault, os_faults
from job.preflight.findings import Finding, failed, ok, size
from job.settings import Settings

# Bytes for each parameter: two checkpoints and a third that is being written, with weights and Adam's two moments in
# fp32; and weights.pt.
BYTES_PER_PARAMETER = 3 * 3 * 4 + 4
REPORT_BYTES = 8_000_000  # pages, pictures, tables


def room_for_output(settings: Settings, parameters: int) -> list[Finding]:
    """A run's files and checkpoints. What an earlier attempt left is counted as room: it will be replaced."""
    if "://" in settings.output:
        return [ok("disk", f"OUTPUT is a bucket: {settings.output} takes no room here")]
    run = Path(settings.output) / settings.run_name
    needed = BYTES_PER_PARAMETER * parameters + REPORT_BYTES
    there = sum(file.stat().st_size for file in run.rglob("*") if file.is_file()) if os.access(run, os.R_OK) else 0
    return [room("OUTPUT", run, max(0, needed - there))]


def room(variable: str, directory: Path, needed: int) -> Finding:
    """Whether `needed` bytes fit where `directory` is or would be made."""
    place = nearest(directory)
    remedy = f"Make room, or name another place in {variable}."
    with os_faults(f"{variable}: cannot look at {place}", variable):
        status = os.statvfs(place)
    free = status.f_bavail * status.f_frsize
    if free < needed:
        few = f"{variable}: {place} has {size(free)} free, about {size(needed)} are needed."
        return failed("disk", TemporaryFault(few, remedy))
    if status.f_files and not status.f_favail:
        return failed("disk", TemporaryFault(f"{variable}: {place} has no room for another file (inodes).", remedy))
    return ok("disk", f"{variable}: {size(free)} free in {place}, about {size(needed)} needed")


def nearest(directory: Path) -> Path:
    """The directory itself, or the nearest of its parents that is there and that this user may enter."""
    places = (directory.absolute(), *directory.absolute().parents)
    return next(place for place in places if os.access(place, os.X_OK) and place.is_dir())
