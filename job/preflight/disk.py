"""Room on the disk: for checkpoints and results in OUTPUT, and for the data set in DATA_DIR."""

from __future__ import annotations

import os
from pathlib import Path

from job.preflight.findings import Finding, failed, ok
from job.settings import Settings
from job.storage.room import free, lacking, nearest, size

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
    fault = lacking(variable, directory, needed)
    if fault is not None:
        return failed("disk", fault)
    return ok("disk", f"{variable}: {size(free(directory))} free in {nearest(directory)}, about {size(needed)} needed")
