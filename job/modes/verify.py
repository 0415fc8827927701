"""`MODE=verify`: does a finished run hold what it reports? Its files, its data set, its loss and its accuracy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from job import device, engine
from job.console.logs import event
from job.console.progress import Progress
from job.device import Compute
from job.engine import classifier
from job.errors import Fault
from job.interrupt import Stop
from job.results import Score
from job.runs import finished
from job.runs.finished import Finished
from job.settings import Settings


@dataclass(frozen=True)
class Tolerance:
    """How far figures may be off: a share of the loss (of SMALL where that is more) and of the images, at least one."""

    loss: float
    images: float

    def describe(self) -> str:
        return f"within {100 * self.loss:g} % of the loss and {100 * self.images:g} % of the images"


SMALL = 0.1  # nats; what is left of a loss below is mostly rounding
EXACT = Tolerance(0, 0)
SAME_PRECISION = Tolerance(0.001, 0.001)  # sums in another order
OTHER_PRECISION = Tolerance(0.02, 0.01)  # bf16 keeps 8 bits of a number, fp16 keeps 11, fp32 keeps 24


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Checks every file against the manifest and computes loss and accuracy on the test set again.

    Raises Fault that says what differs where the run is not what it reports.
    """
    found = finished.find(settings)
    broken = finished.damage(found, stop.check)
    if broken:
        raise Fault(
            f"{found.store.uri} is not what its manifest says: {'; '.join(broken)}.",
            "Copy the run again from where it was whole, or run it anew with FRESH=1.",
        )
    results = finished.read_json(found, finished.RESULTS)
    about = finished.read_json(found, finished.MODEL)
    said = Score(results["test"]["loss"], results["test"]["accuracy_percent"])
    if about["test"] != results["test"]:
        raise Fault(f"{found.store.uri}: model.json and results.json report different figures.", "Run it anew.")
    was = results["provenance"]
    kept = was["arithmetic"] | (
        {} if settings.sources()["PRECISION"] == "default" else {"precision": settings.precision}
    )
    compute = device.choose(settings.device, settings.precision, kept)
    wanted = tolerance(compute, was)
    data = finished.data_of(found, settings, progress).to(compute.device)
    event(
        "verify",
        f"verify {found.store.uri}: {len(found.manifest['files']) if found.manifest else 0} files are whole; "
        f"computing on {compute.describe()} what was computed on {was['hardware']}, {was['precision']}; "
        + ("it must be equal to the last bit" if wanted == EXACT else f"it must be {wanted.describe()}"),
    )
    progress.check = stop.check
    model = compute.place(classifier.load(about, finished.read(found, finished.WEIGHTS)).model)
    with device.memory_faults():
        now = engine.evaluate(model, data.test, compute, progress.batch)
    progress.close()
    tell(found, said, now, wanted, len(data.test))


def tolerance(compute: Compute, was: dict[str, Any]) -> Tolerance:
    """None at all on the same hardware with the same torch; else by the precision of both."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    same = all(was["versions"].get(name) == value for name, value in versions.items())
    if same and compute.arithmetic() == was["arithmetic"] and compute.hardware == was["hardware"]:
        return EXACT
    return SAME_PRECISION if compute.precision == was["precision"] == "fp32" else OTHER_PRECISION


def tell(found: Finished, said: Score, now: Score, wanted: Tolerance, images: int) -> None:
    """Says that the figures agree. Raises Fault where they do not."""
    loss_off, off = abs(now.loss - said.loss), round(abs(now.accuracy - said.accuracy) * images / 100)
    allowed = 0 if wanted == EXACT else max(1, math.ceil(wanted.images * images))
    figures = (
        f"test loss {now.loss:.6f} (reported {said.loss:.6f}), accuracy {now.accuracy:.2f} % ({said.accuracy:.2f} %)"
    )
    if not loss_off <= wanted.loss * max(said.loss, SMALL) or off > allowed:
        how = "which must be equal to the last bit here" if wanted == EXACT else f"not {wanted.describe()}"
        raise Fault(
            f"{found.store.uri} does not give what it reports: {figures}, {how}.",
            "Check that job/ is at the run's commit (report.html names it); else run it anew with FRESH=1.",
        )
    exactly = now == said
    event(
        "verified",
        f"verified: {figures}, " + ("equal to the last bit" if exactly else wanted.describe()),
        exactly=exactly,
        loss=now.loss,
        accuracy_percent=now.accuracy,
        reported_loss=said.loss,
        reported_accuracy_percent=said.accuracy,
    )
