"""`MODE=check`, the preflight: whether a run would work here, how long it would take and what it would cost."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import TypeVar

import job.report.rendering  # noqa: F401  (a run loads it in its end; what keeps it from that is to be seen here)
from job.console.logs import event
from job.console.progress import Progress
from job.data.cifar10 import KAGGLE_INPUT
from job.device import Compute, for_trials
from job.device.memory import is_out_of_memory, memory_faults
from job.engine import build
from job.errors import Fault, TemporaryFault, first_line
from job.interrupt import Stop
from job.preflight import data, disk, limit, machine, store, timing, weights
from job.preflight.data import Counts
from job.preflight.findings import Finding, failed, ok, warn
from job.settings import OF_S3, Settings, faults, in_notebook, no_color, notes

T = TypeVar("T")
COLOURS = {"ok": "32", "warn": "33", "fail": "31", "skip": "2"}  # green, yellow, red, dim (ECMA-48)
LEVELS = {"warn": "WARNING", "fail": "ERROR"}
INDENT = 21  # of what was found, after its mark and name
OF_SEARCH = "SEARCH TUNE_PERCENT MAX_EVALS TUNE_MAX_EPOCHS PATIENCE"
EVERYTHING_SAID = "Each line above says what to do."


@dataclass
class Preflight:
    """Runs one check after the other and shows what each found; none keeps the next from its turn.

    `wrong` holds the variables with faults: a check that reads one of them would look at something else than was meant.
    """

    wrong: dict[str, list[str]]
    show: Callable[[Finding], object]
    stop: Stop
    found: list[Finding] = field(default_factory=list)

    def tell(self, findings: Iterable[Finding]) -> None:
        for finding in findings:
            self.found.append(finding)
            self.show(finding)

    def look(self, name: str, reads: str, check: Callable[[], tuple[T | None, list[Finding]]]) -> T | None:
        """What `check` gives; None where it failed or would be beside the point. `reads` names variables."""
        self.stop.check()
        wrong = [variable for variable in reads.split() if variable in self.wrong]
        if wrong:
            self.tell([Finding(name, "skip", f"not checked: {', '.join(wrong)} must be put right first")])
            return None
        try:
            with memory_faults():
                value, findings = check()
        except Fault as fault:
            self.tell([failed(name, fault)])
            return None
        self.tell(findings)
        return value

    def see(self, name: str, reads: str, check: Callable[[], list[Finding]]) -> None:
        self.look(name, reads, lambda: (None, check()))

    def skip(self, name: str, why: str) -> None:
        self.tell([Finding(name, "skip", f"not checked: {why}")])


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Looks at everything that a run needs, and trains a few steps; nothing is left behind.

    Raises Fault where something has to be mended first, else TemporaryFault where something may mend by itself.
    """
    wrong = faults()
    shaping = f"MODEL RECIPE DATASET DATA_LIMIT {OF_SEARCH} LEARNING_RATE EPOCHS BATCH_SIZE MAX_HOURS"
    terminal = sys.stdout.isatty() and not in_notebook()
    show = for_machines if settings.log_format == "json" else for_people(terminal, terminal and not no_color())
    look = Preflight(wrong, show, stop)
    look.tell(settings_findings(settings, wrong))
    compute = look.look("device", "DEVICE PRECISION", lambda: machine.compute(settings))
    if compute is not None:
        look.tell([*machine.precision(compute), *machine.processors(compute.threads)])
        look.see("threads", "", lambda: machine.threads(compute.threads or 1))
    counts = look.look(
        "data", "DATASET DATA_DIR DATA_URL DATA_LIMIT", lambda: data.look(settings, KAGGLE_INPUT, stop.check)
    )
    if counts is not None:
        look.see("split", "TUNE_PERCENT LEARNING_RATE EPOCHS SEED", lambda: data.search(settings, counts))
    else:
        look.skip("split", "the data set's size is not known")
    parameters = build.parameters(settings.model, counts.classes if counts else 10, settings.image_size)
    workers = workers_of(settings, compute)
    images = 3 * settings.image_size**2 * (counts.train + counts.test if counts else 0)
    look.see(
        "memory",
        "MODEL WORKERS DATASET DATA_LIMIT IMAGE_SIZE",
        lambda: machine.images_fit(data.bytes_in_memory(settings)) or machine.memory(images, parameters, workers),
    )
    look.see("temporary", "", machine.temporary_folder)
    look.see("shared memory", "", lambda: machine.shared_memory(settings))
    look.see("extras", "RAY_ADDRESS", lambda: machine.extras(settings))
    look.see("disk", "MODEL OUTPUT RUN_ID", lambda: disk.room_for_output(settings, parameters))
    look.see("store", f"OUTPUT RUN_ID {' '.join(OF_S3)}", lambda: store.probe(settings))
    if any(finding.name == "store" and finding.result == "fail" for finding in look.found):
        look.skip("run", "the store does not serve")
    else:
        look.see(
            "run",
            f"OUTPUT RUN_ID FRESH SEED PRETRAINED_WEIGHTS {shaping}",
            lambda: store.standing(settings, stop.check),
        )
    look.see("weights", "MODEL PRETRAINED_WEIGHTS", lambda: weights.look(settings, stop.check))
    if compute is None or counts is None:
        look.skip("time", "it needs the device and the data set's size")
    else:
        look.see("time", f"WORKERS {shaping}", lambda: predict(settings, compute, counts, workers, stop))
    conclude(look.found)


def settings_findings(settings: Settings, wrong: dict[str, list[str]]) -> list[Finding]:
    """All faults of the settings, or that there are none."""
    told = [failed("settings", Fault(fault)) for each in wrong.values() for fault in each]
    given = sorted(name.upper() for name in settings.model_fields_set)
    fine = [ok("settings", f"set: {', '.join(given) or 'none'}; the others have their defaults")]
    return (told or fine) + [warn("settings", note) for note in notes(settings)]


def workers_of(settings: Settings, compute: Compute | None) -> int:
    """How many trials would run at the same time on this machine; a Ray cluster is not asked."""
    if settings.workers != "auto":
        return int(settings.workers)
    return len(for_trials(settings.device, compute)) if compute is not None and settings.ray_address is None else 1


def predict(settings: Settings, compute: Compute, counts: Counts, workers: int, stop: Stop) -> list[Finding]:
    try:
        speed = timing.measure(settings, compute, counts, stop.check)
    except RuntimeError as error:  # whatever the driver or a library meets in the model's first steps
        if is_out_of_memory(error):
            raise
        raise Fault(
            f"{settings.model} does not train on {compute.device}: {first_line(error)}.",
            "Choose another DEVICE or PRECISION, or lower BATCH_SIZE.",
        ) from error
    predicted = timing.findings(settings, timing.predict(settings, counts, speed, workers), speed)
    return predicted + limit.findings(settings, counts, speed, workers)


def for_people(terminal: bool, colours: bool) -> Callable[[Finding], None]:
    """A function that shows a finding: wrapped to the width of a terminal, and green or red where it takes colours."""
    width = max(60, shutil.get_terminal_size().columns) if terminal else sys.maxsize

    def show(finding: Finding) -> None:
        mark = f"{finding.result:<4}"
        if colours:
            mark = f"\033[{COLOURS[finding.result]}m{mark}\033[0m"
        texts = [*finding.detail.splitlines(), *finding.remedy.splitlines()]
        lines = [line for text in texts for line in textwrap.wrap(text, width - INDENT)]
        head = f"{mark}  {finding.name:<{INDENT - 8}}  "
        event("check", head + f"\n{' ' * INDENT}".join(lines))

    return show


def for_machines(finding: Finding) -> None:
    """A finding as an event with fields of its own, at the level that its result deserves."""
    fields = {name: value for name, value in asdict(finding).items() if value is not None}
    level = LEVELS.get(finding.result, "INFO")
    event("check", f"{finding.name}: {finding.detail}", level=level, check=fields.pop("name"), **fields)


def conclude(found: list[Finding]) -> None:
    """Says how it went. Raises Fault before TemporaryFault: what a retry cannot mend comes first."""
    failures = [finding for finding in found if finding.result == "fail"]
    skipped = sum(finding.result == "skip" for finding in found)
    warnings = sum(finding.result == "warn" for finding in found)
    told = f"{len(found)} checks, {len(failures)} failed, {warnings} warnings" + f", {skipped} skipped" * (skipped > 0)
    if not failures:
        event("checked", f"ready: {told}", checks=len(found), warnings=warnings)
        return
    names = ", ".join(dict.fromkeys(finding.name for finding in failures))
    fault = Fault if any(finding.exit_code == Fault.exit_code for finding in failures) else TemporaryFault
    raise fault(f"not ready: {told}: {names}.", EVERYTHING_SAID)
