"""`MODE=predict`: the answers of a finished run's model for images from elsewhere."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from job import device
from job.console.logs import concerning, event, printable
from job.console.progress import Progress
from job.data import inputs
from job.data.decoding import CUT_OFF
from job.data.inputs import Source
from job.data.picture import Picture, Shape, decoded
from job.device import Compute
from job.device.memory import memory_faults
from job.engine import classifier, evaluation_batch
from job.engine.classifier import Classifier
from job.errors import Fault, TemporaryFault, os_fault
from job.interrupt import Stop
from job.report.tables import for_sheets
from job.runs import finished, publish
from job.runs.place import place_of
from job.settings import Settings

BATCH = 500  # images that are read side by side and then classified together
THREADS = 8  # for reading, which waits for a disk or a network most of the time
NAMED = 5  # faults that the last message repeats
SHOWN = 3  # classes in a line


@dataclass(frozen=True)
class Answer:
    """`probabilities` has one share a class; it is None, and `failure` says why, where the image was not readable."""

    name: str
    probabilities: NDArray[np.float64] | None
    failure: str = ""
    may_mend: bool = False


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Classifies every image that INPUT names and stores `predictions/RUN_ID/predictions.csv` below OUTPUT.

    Raises Fault, after all others were answered and stored, where an image could not be read; TemporaryFault where
    trying again may help.
    """
    assert settings.input is not None
    found = finished.find(settings, stop, handed_on=True)
    if found.manifest is None:
        event("unvouched", f"{found.store.uri} has no manifest: its files are used as they are", level="WARNING")
    about = finished.model(found)
    model = classifier.load(about, finished.read(found, finished.WEIGHTS))
    classes = [str(name) for name in about["classes"]]
    sources = inputs.found(settings.input)
    compute = device.choose(settings.device, settings.precision)
    event(
        "predict",
        f"predict: {len(sources):,} image{'s' * (len(sources) > 1)} by {about['model']} of {found.store.uri} "
        f"on {compute.describe()}",
        images=len(sources),
        run=found.name,
    )
    compute.place(model)
    answers = []
    with memory_faults():
        for answer in classified(model, sources, shape_of(about), compute, stop):
            tell(answer, classes)
            answers.append(answer)
    store, name = place_of(settings, "", stop=stop), f"predictions/{found.name}/predictions.csv"
    publish.put_checked(store, name, as_csv(answers, classes).encode(errors="backslashreplace"))
    bad = [answer for answer in answers if answer.failure]
    event(
        "finished",
        f"finished: {len(answers) - len(bad):,} of {len(answers):,} images classified, see {store.uri}/{name}",
        uri=f"{store.uri}/{name}",
    )
    if bad:
        raise unreadable(bad, len(answers))


def shape_of(about: Mapping[str, Any]) -> Shape:
    """How images are brought to what the model takes; runs of before RESIZE squashed them."""
    return Shape(int(about["image_size"]), str(about.get("resize", "squash")))


def unreadable(bad: Sequence[Answer], of: int) -> Fault:
    """The fault of a folder with images that have no answer."""
    more = f" and {len(bad) - NAMED} more" if len(bad) > NAMED else ""
    what = "; ".join(f"{printable(answer.name)} ({printable(answer.failure)})" for answer in bad[:NAMED])
    again = any(answer.may_mend for answer in bad)
    kind = TemporaryFault if again else Fault
    remedy = "Start the same command again: they may be readable then." if again else "Mend or remove them."
    return kind(
        f"INPUT: {len(bad)} of {of} images could not be read: {what}{more}.",
        f"{remedy} The answers for all others are stored.",
    )


def classified(
    model: Classifier, sources: Sequence[Source], shape: Shape, compute: Compute, stop: Stop
) -> Iterator[Answer]:
    """An answer for every source, in their order."""
    with ThreadPoolExecutor(THREADS) as pool:
        for start in range(0, len(sources), BATCH):
            stop.check()
            part = sources[start : start + BATCH]
            images = list(pool.map(lambda source: read(source, shape), part))
            readable = [image.pixels for image in images if isinstance(image, Picture)]
            shares = iter(probabilities(model, np.stack(readable), compute) if readable else ())
            for source, image in zip(part, images, strict=True):
                if isinstance(image, Picture):
                    if image.cut_off:
                        event("image", f"{printable(source.name)}: {CUT_OFF}", level="WARNING", image=source.name)
                    yield Answer(source.name, next(shares))
                else:
                    reason = image.what.rstrip(".") if isinstance(image, Fault) else str(image)
                    yield Answer(source.name, None, reason, isinstance(image, TemporaryFault))


def read(source: Source, shape: Shape) -> Picture | Exception:
    """The image, or why there is none."""
    try:
        with concerning(printable(source.name)):
            return decoded(source.read(), shape)
    except (Fault, ValueError) as error:
        return error
    except OSError as error:
        return os_fault(error, f"cannot read {source.name}", "INPUT", "read")


@torch.no_grad()
def probabilities(model: Classifier, images: NDArray[np.uint8], compute: Compute) -> NDArray[np.float64]:
    """Shares `[images, classes]` that add up to 1, from uint8 `[images, rows, columns, 3]`."""
    parts = torch.split(torch.from_numpy(images), evaluation_batch(images.shape[1]))
    with compute.autocast():
        logits = torch.cat([model(part.to(compute.device)) for part in parts])
    shares: NDArray[np.float64] = torch.softmax(logits.double(), dim=1).cpu().numpy()
    return shares


def tell(answer: Answer, classes: Sequence[str]) -> None:
    """One line an image: its most likely classes, or why there are none."""
    shown = printable(answer.name)
    if answer.probabilities is None:
        event(
            "unreadable", f"{printable(answer.name)}: {printable(answer.failure)}", level="WARNING", image=answer.name
        )
        return
    order = np.argsort(-answer.probabilities, kind="stable")
    likely = ", ".join(
        f"{printable(classes[place])} {100 * answer.probabilities[place]:.1f} %" for place in order[:SHOWN]
    )
    event(
        "prediction",
        f"{shown}: {likely}",
        image=answer.name,
        answer=classes[order[0]],
        probabilities=dict(zip(classes, answer.probabilities.tolist(), strict=True)),
    )


def as_csv(answers: Sequence[Answer], classes: Sequence[str]) -> str:
    """`predictions.csv`: one line an image; `failure` says why one has no class."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL)  # older Pythons leave a name's CR bare
    writer.writerow(
        ["image", "class", "probability", "failure", *(f"probability_{printable(name)}" for name in classes)]
    )
    for answer in answers:
        if answer.probabilities is None:
            writer.writerow([for_sheets(answer.name), "", "", for_sheets(answer.failure), *("" for _ in classes)])
        else:
            best = int(answer.probabilities.argmax())
            shares = [f"{share:.6f}" for share in answer.probabilities]
            writer.writerow([for_sheets(answer.name), for_sheets(classes[best]), shares[best], "", *shares])
    return out.getvalue()
