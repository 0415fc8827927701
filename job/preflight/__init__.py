"""Looking before the work: each file has the checks of one kind, small functions that return what they found.

`MODE=check` runs them all (`job.modes.check`); every run begins with the cheap ones (`before_run`).
"""

from __future__ import annotations

from job.console.logs import event
from job.device import Compute
from job.engine import build
from job.errors import TemporaryFault
from job.preflight import disk, machine
from job.settings import Settings


def before_run(settings: Settings, compute: Compute) -> None:
    """What costs no time: room on the disk, processors. The lock proved that the store takes objects, `device.choose`
    that the GPU runs a kernel, and the data set is what a run loads first.

    Raises TemporaryFault where the disk has too little room for this run's checkpoints and files.
    """
    findings = disk.room_for_output(settings, build.parameters(settings.model, 10, settings.image_size))
    findings += machine.processors(compute.threads)
    for finding in findings:
        if finding.result == "fail":
            raise TemporaryFault(finding.detail, finding.remedy)
        if finding.result == "warn":
            event("preflight", f"{finding.detail}. {finding.remedy}", level="WARNING", check=finding.name)
