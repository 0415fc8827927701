"""`MODE=export`: a finished run's model in the forms of EXPORT_FORMAT, each compared with torch before it is stored."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

import torch

from job.console.logs import event
from job.console.progress import Progress
from job.engine import classifier
from job.errors import Fault
from job.interrupt import Stop
from job.modes.export_compared import Comparison, compare, torchs
from job.modes.export_formats import FORMATS, Format, Written, check_packages
from job.runs import finished, lock, publish
from job.runs.finished import Finished
from job.settings import Settings


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Puts each form's file and sidecar beside the run's other files and into its manifest; all of them or none.

    Raises Fault where a package is missing or an exported model does not compute what torch computes.
    """
    formats = [FORMATS[name] for name in settings.export_formats]
    check_packages(formats)
    found = finished.find(settings, stop)
    about = finished.model(found)
    model = classifier.load(about, finished.read(found, finished.WEIGHTS))
    test = finished.data_of(found, settings, progress).test
    names = ", ".join(each.name for each in formats)
    event("export", f"export {found.store.uri}: {about['model']} as {names}, then {len(test):,} test images through it")
    ours = torchs(model, test, stop.check)
    files, comparisons = {}, {}
    for each in formats:
        written = each.write(model, int(about["image_size"]), properties(found, about))
        answer = each.load(written.content, lambda: classifier.fresh(about))
        comparisons[each] = compare(ours, answer, test, stop.check)
        check(found, each, comparisons[each])
        files[each.file] = written.content
        files[each.sidecar] = sidecar(found, about, each, written, comparisons[each])
    with lock.held(found.store, stop) as held:
        publish.add(held.store, files, held.check)
    for each, comparison in comparisons.items():
        tell(found, each, len(files[each.file]), comparison)


def properties(found: Finished, about: dict[str, Any]) -> dict[str, str]:
    """What travels inside a file: text by name."""
    return {
        "run": found.name,
        "model": str(about["model"]),
        "classes": json.dumps(about["classes"]),
        "image_size": str(about["image_size"]),
        "resize": str(about.get("resize", "squash")),
        "input": "uint8 RGB, [batch, rows, columns, 3]; the normalisation is part of the graph",
        "dataset": str(about["dataset"]),
        "data_sha256": str(about["data_sha256"]),
        "test_accuracy_percent": str(about["test"]["accuracy_percent"]),
    }


def check(found: Finished, form: Format, comparison: Comparison) -> None:
    """Raises Fault where what was exported is not torch's model."""
    if not comparison.fits(form.quantised):
        raise Fault(
            f"{found.store.uri}: as {form.name} the model computes something else: logits differ by up to "
            f"{comparison.greatest_difference:.2g} where {comparison.limit:.2g} is allowed, "
            f"{comparison.other_answers:,} of {comparison.images:,} answers are others. Nothing was stored.",
            "The model has a part that torch's exporter does not translate faithfully: write it in plain operations.",
        )


def sidecar(found: Finished, about: dict[str, Any], form: Format, written: Written, comparison: Comparison) -> bytes:
    """`model.onnx.json` and its like."""
    size, classes = about["image_size"], about["num_classes"]
    told = {
        "run": found.name,
        "model": about["model"],
        "classes": about["classes"],
        "input": {"name": "images", "type": "uint8", "shape": ["batch", size, size, 3], "colours": "RGB"},
        "outputs": {name: {"type": "float32", "shape": ["batch", classes]} for name in form.outputs},
        "resize": about.get("resize", "squash"),
        **written.facts,
        "test": about["test"],
        "compared_with_torch": comparison.as_json(form.name),
        "versions": {"torch": torch.__version__, **{name: version(name) for name in form.packages}},
        "dataset": about["dataset"],
        "data_sha256": about["data_sha256"],
    }
    return (json.dumps(told, indent=2) + "\n").encode()


def tell(found: Finished, form: Format, size: int, comparison: Comparison) -> None:
    exported, torchs = comparison.correct_exported, comparison.correct_torch
    event(
        "finished",
        f"finished: {form.file} ({size / 1e6:.1f} MB) and {form.sidecar} are in {found.store.uri}; {exported:,} of "
        f"{comparison.images:,} test images right, as in torch"
        + (f" ({torchs:,})" if torchs != exported else "")
        + f"; logits differ by {comparison.greatest_difference:.1e} at most",
        uri=f"{found.store.uri}/{form.file}",
        **comparison.as_json(form.name),
    )
