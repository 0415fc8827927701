"""`MODE=predict`: the answers of a finished run's model for images from elsewhere, however many.

Images stream through: read ahead by threads, answered in batches, kept in parts (`predict_parts`) that a later start
goes on from, and put together at the end. In reading order: this file, `predict_answers`, `predict_rows`,
`predict_parts`, `predict_heats`.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from job import device
from job.console.logs import event, printable
from job.console.progress import Progress
from job.data import inputs
from job.data.inputs import Inputs
from job.device import Compute
from job.device.memory import memory_faults
from job.engine import classifier
from job.engine.classifier import Classifier
from job.errors import Fault, TemporaryFault
from job.interrupt import Stop
from job.modes.predict_answers import Batch, Reader, batches, shape_of
from job.modes.predict_heats import Heats
from job.modes.predict_parts import Kept, Outcome, Part, outcome, planned
from job.modes.predict_rows import Answer, Columns, heading, rows, tell
from job.runs import finished, publish
from job.runs.finished import Finished
from job.runs.place import place_of
from job.settings import Settings

NAMED = 5  # faults that the last message repeats
SPOKEN = 100  # images up to which each has a line of its own, and bad ones that have one whatever their count


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Classifies every image that INPUT names and stores `predictions/RUN_ID/predictions.csv` below OUTPUT.

    Raises Fault, after all others were answered and stored, where an image could not be read; TemporaryFault where
    trying again may help.
    """
    assert settings.input is not None
    found = finished.find(settings, stop, handed_on=True)
    if found.manifest is None:
        event("unvouched", f"{found.store.uri} has no manifest: its files are used as they are", level="WARNING")
    work = prepared(found, settings, stop)
    place = settings.input
    images = stop.heard(lambda: inputs.found(place))
    parts = planned(images, work.made_from, stop)
    there = work.kept.names()
    if settings.fresh:
        work.kept.remove(there)
        there = set()
    missing = [part for part in parts if part.name not in there]
    done = len(images) - sum(len(part.of) for part in missing)
    event(
        "predict",
        f"predict: {len(images):,} image{'s' * (len(images) > 1)} by {work.about['model']} of {found.store.uri} "
        f"on {work.compute.describe()}" + (f"; going on after {done:,}, which are answered already" if done else ""),
        images=len(images),
        answered=done,
        run=found.name,
    )
    with memory_faults(), progress.bar("predict", len(images), "images") as move:
        move(done)
        reader = Reader(images, shape_of(work.about), lambda: move(0))
        answered = batches(work.model, reader, [part.of for part in missing], work.compute)
        for part in missing:
            work.kept.put(part, of_part(work, part, answered, images, move))
    hand_over(work, parts, images)


@dataclass(frozen=True)
class Prediction:
    """What all images go through, and where the answers go."""

    about: dict[str, Any]
    model: Classifier
    compute: Compute
    columns: Columns
    made_from: dict[str, Any]
    folder: str
    kept: Kept
    heats: Heats | None


def prepared(found: Finished, settings: Settings, stop: Stop) -> Prediction:
    """Raises Fault where the run's model cannot be loaded."""
    about, weights = finished.model(found), finished.read(found, finished.WEIGHTS)
    compute = device.choose(settings.device, settings.precision)
    model = classifier.load(about, weights)
    compute.place(model)
    columns = Columns([str(name) for name in about["classes"]], settings.top_k)
    made_from = {
        "about": about,
        "weights": hashlib.sha256(weights).hexdigest(),
        "arithmetic": compute.arithmetic(),
        "torch": torch.__version__,
        "top": settings.top_k,
        "heatmaps": settings.heatmaps,
    }
    store, folder = place_of(settings, "", stop=stop), f"predictions/{found.name}"
    heats = None
    if settings.heatmaps:
        heats = Heats(classifier.load(about, weights), columns.classes, store, f"{folder}/heatmaps")
    return Prediction(about, model, compute, columns, made_from, folder, Kept(store, f"{folder}/parts"), heats)


def of_part(work: Prediction, part: Part, answered: Iterator[Batch], images: Inputs, move: Any) -> Outcome:
    """Takes the batches of one part. Raises TemporaryFault where none of its images could be read, and others are
    still to come: then it is the place that does not answer.
    """
    answers: list[Answer] = []
    few = len(images) <= SPOKEN
    bad = 0
    while len(answers) < len(part.of):
        batch = next(answered)
        for answer in batch.answers:
            bad += answer.probabilities is None
            if few or (answer.probabilities is None and bad <= SPOKEN):
                tell(answer, work.columns.classes)
        answers += batch.answers
        if work.heats:
            work.heats.add(batch, of=len(images))
        move(len(batch.answers))
    found = outcome(answers, rows(answers, work.columns))
    if found.may_mend and bad == len(answers) and part.of.stop < len(images):
        raise unreadable(found.bad, len(answers), again=True)
    return found


def hand_over(work: Prediction, parts: Sequence[Part], images: Inputs) -> None:
    """Puts the parts together, and removes them where nothing is left to be looked at again."""
    store, name = work.kept.store, f"{work.folder}/predictions.csv"
    content, may_mend = io.BytesIO(), False  # its value is no second copy
    content.write(heading(work.columns).encode(errors="backslashreplace"))
    bad: list[tuple[str, str]] = []
    for part in parts:
        found = work.kept.get(part)
        content.write(found.rows)
        bad += found.bad
        may_mend |= found.may_mend
    publish.put_checked(store, name, content.getvalue())
    if work.heats:
        work.heats.tidy(len(images))
    if not may_mend:
        work.kept.remove(work.kept.names())
    event(
        "finished",
        f"finished: {len(images) - len(bad):,} of {len(images):,} images classified, see {store.uri}/{name}"
        + (f" and {work.heats.folder}/" if work.heats else ""),
        uri=f"{store.uri}/{name}",
    )
    if bad:
        raise unreadable(bad, len(images), may_mend)


def unreadable(bad: Sequence[tuple[str, str]], of: int, again: bool) -> Fault:
    """The fault of images that have no answer, `bad` by name and reason."""
    more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    what = "; ".join(f"{printable(name)} ({printable(reason)})" for name, reason in bad[:NAMED])
    kind = TemporaryFault if again else Fault
    remedy = "Start the same command again: they may be readable then." if again else "Mend or remove them."
    return kind(
        f"INPUT: {len(bad):,} of {of:,} images could not be read: {what}{more}.",
        f"{remedy} The answers for all others are stored.",
    )
