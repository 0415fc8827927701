"""`MODE=verify`: does a finished run hold what it reports? All that can be computed again is, and told in one table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from job import device, engine
from job.console.logs import event
from job.console.progress import Progress
from job.data import places
from job.data.dataset import other_weights
from job.device import Compute
from job.device.memory import memory_faults
from job.engine import build, classifier
from job.errors import Fault
from job.interrupt import Stop
from job.modes import verify_figures, verify_files, verify_results
from job.modes.seen import seen
from job.modes.verify_rows import EXACT, OTHER_PRECISION, SAME_PRECISION, Facts, Row, Tolerance, listed
from job.report.answers import FILE, Answers, answers_of, from_csv
from job.report.metrics import evaluate
from job.results import Score
from job.runs import finished, provenance
from job.runs.finished import Finished
from job.settings import Settings

NAMED = 8  # differences that the last message repeats


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Checks every file against the manifest, and every figure against the weights, the answers and the records.

    Raises Fault that says what differs where the run is not what it reports.
    """
    with readable(f"{settings.output}/{settings.run_name}"):
        facts = gather(whole(settings, stop), settings, progress, stop)
        rows = [
            *verify_files.listing(facts),
            *verify_figures.rows(facts),
            *verify_results.rows(facts),
            *verify_files.rows(facts),
            *verify_figures.untold(facts),
        ]
    progress.close()
    tell(facts, rows)


@contextmanager
def readable(uri: str) -> Iterator[None]:
    """Turns what results, model.json or manifest lack into a message."""
    try:
        yield
    except KeyError as error:
        told = f"lacks {error.args[0]}"
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        told = f"holds something else than this job writes: {error}"
    else:
        return
    raise Fault(
        f"{uri} cannot be verified: one of its JSON files {told}.",
        "Copy the run again from where it was whole, or run it anew with FRESH=1.",
    )


def whole(settings: Settings, stop: Stop) -> Finished:
    """The run, each of whose files is the one that its manifest names. Raises Fault that names every other one."""
    found = finished.find(settings, stop)
    broken = finished.damage(found, stop.check)
    if broken:
        raise Fault(
            f"{found.store.uri} is not what its manifest says: {'; '.join(broken)}.",
            "Copy the run again from where it was whole, or run it anew with FRESH=1.",
        )
    return found


def gather(found: Finished, settings: Settings, progress: Progress, stop: Stop) -> Facts:
    """Everything that the rows are made from; computes loss, accuracy and answers from the weights."""
    results, about = finished.results(found), finished.model(found)
    check_weights(found, results, settings, progress)
    was = results["provenance"]
    precision = {} if settings.sources()["PRECISION"] == "default" else {"precision": settings.precision}
    compute = device.choose(settings.device, settings.precision, was["arithmetic"] | precision)
    wanted = tolerance(compute, was)
    data = finished.data_of(found, settings, progress)
    on_device, _ = places.placed(data, compute.device)
    tell_beginning(found, was, compute, wanted)
    progress.check = stop.check
    weights = finished.read(found, finished.WEIGHTS)
    model = compute.place(classifier.load(about, weights).model)
    with memory_faults():
        now = engine.evaluate(model, on_device.test, compute, progress.batch)
        flipped = None
        if "test_time_flip" in results:
            flipped = engine.evaluate_with_flip(model, on_device.test, compute, progress.batch)
        logits = engine.predict(model, on_device.test, compute, progress.batch).numpy()
    answers = answers_of(logits, data.test.labels.numpy(), data.test_names)
    kept = kept_answers(found, data.classes)
    again = classifier.load(about, weights)  # the first was made fit for the device
    return Facts(
        settings=settings,
        found=found,
        results=results,
        about=about,
        model=again,
        data=data,
        structure=str(model),
        parameters=build.trainable_parameters(model),
        said=Score(results["test"]["loss"], results["test"]["accuracy_percent"]),
        now=now,
        kept=kept,
        answers=answers,
        seen=seen(again, data.test, kept or answers, evaluate(kept or answers, data.classes)),
        flipped=flipped,
        wanted=wanted,
        same_code=was["git_commit"] == provenance.git_commit(),
    )


def tell_beginning(found: Finished, was: dict[str, Any], compute: Compute, wanted: Tolerance) -> None:
    event(
        "verify",
        f"verify {found.store.uri}: computing on {compute.describe()} what was computed on {was['hardware']}, "
        f"{was['precision']}; "
        + ("it must be equal to the last bit" if wanted == EXACT else f"it must be {wanted.describe()}"),
    )


def kept_answers(found: Finished, classes: Sequence[str]) -> Answers | None:
    """Those that the run kept, where it did. Raises ValueError where the file holds something else."""
    kept = found.manifest is not None and FILE in found.manifest["files"]
    return from_csv(finished.read(found, FILE), classes) if kept else None


def check_weights(found: Finished, results: dict[str, Any], settings: Settings, progress: Progress) -> None:
    """Raises Fault where PRETRAINED_WEIGHTS, if it is set, names other weights than the run started from."""
    recorded = results["provenance"].get("pretrained")
    if settings.sources()["PRETRAINED_WEIGHTS"] == "environment":
        of_run = settings.model_copy(update={"model": results["model"]["name"]})
        told = other_weights(of_run, progress)(recorded)
        if told:
            raise Fault(f"{found.store.uri}: {told}.", "Leave PRETRAINED_WEIGHTS out, or name those of the run.")


def tolerance(compute: Compute, was: dict[str, Any]) -> Tolerance:
    """None at all on the same hardware with the same torch; else by the precision of both."""
    versions = {"torch": torch.__version__, "cuda": torch.version.cuda}
    same = all(was["versions"].get(name) == value for name, value in versions.items())
    if same and compute.arithmetic() == was["arithmetic"] and compute.hardware == was["hardware"]:
        return EXACT
    return SAME_PRECISION if compute.precision == was["precision"] == "fp32" else OTHER_PRECISION


def tell(facts: Facts, rows: list[Row]) -> None:
    """The table, and that the figures agree. Raises Fault where they do not."""
    event("compared", listed(rows), rows=[[row.what, row.verdict, row.told] for row in rows])
    wrong = [f"{row.what}: {row.told}" for row in rows if row.verdict == "differs"]
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise Fault(
            f"{facts.found.store.uri} does not give what it reports: {'; '.join(wrong[:NAMED])}{more}.",
            "Check that job/ is at the run's commit (report.html names it); else run it anew with FRESH=1.",
        )
    exactly = facts.now == facts.said
    event(
        "verified",
        f"verified: {facts.figures()}, " + ("equal to the last bit" if exactly else facts.wanted.describe()),
        exactly=exactly,
        loss=facts.now.loss,
        accuracy_percent=facts.now.accuracy,
        reported_loss=facts.said.loss,
        reported_accuracy_percent=facts.said.accuracy,
    )
