"""The exported models of a run: each loaded by its own runtime and compared with torch on the whole test set."""

from __future__ import annotations

import json
from collections.abc import Iterator

from job.engine import classifier
from job.modes.export_compared import compare, torchs
from job.modes.export_formats import FORMATS, Answer, Format
from job.modes.verify_rows import Facts, Row, judged
from job.runs import finished


def rows(facts: Facts) -> Iterator[Row]:
    """A row for each form that the manifest names, and one for its sidecar."""
    present = [form for form in FORMATS.values() if form.file in facts.manifest["files"]]
    if not present:
        return
    ours = torchs(facts.model, facts.data.test, nothing)
    for form in present:
        if form.missing():
            yield Row(form.file, "not compared", f"not installed here: {', '.join(form.missing())}")
        else:
            found = compare(ours, loaded(facts, form), facts.data.test, nothing)
            told = f"logits differ from torch's by {found.greatest_difference:.1e} at most, "
            told += "it is quantised" if form.quantised else f"{found.limit:.1e} is allowed"
            answers = f"{found.other_answers:,} of {found.images:,} answers are others"
            if not found.fits(form.quantised):
                yield Row(form.file, "differs", f"{told}; {answers}")
            else:
                yield Row(form.file, "near" if found.greatest_difference else "equal", told)
        if form.sidecar in facts.manifest["files"]:
            yield sidecar(facts, form)


def loaded(facts: Facts, form: Format) -> Answer:
    return form.load(finished.read(facts.found, form.file), lambda: classifier.fresh(facts.about))


def sidecar(facts: Facts, form: Format) -> Row:
    """Class names, size and figures as `model.json` has them."""
    said, size = json.loads(finished.read(facts.found, form.sidecar)), facts.about["image_size"]
    wanted = {name: facts.about.get(name) for name in ("model", "classes", "test", "dataset", "data_sha256")}
    wanted["resize"] = facts.about.get("resize", "squash")
    wanted["input"] = said["input"] | {"shape": ["batch", size, size, 3]}
    return judged(
        form.sidecar,
        [
            f"{name} is {said.get(name)} and must be {value}"
            for name, value in wanted.items()
            if said.get(name) != value
        ],
        "what it says of the model",
    )


def nothing() -> None:
    """The test set was just computed once, with a look at the signals; this takes no longer."""
