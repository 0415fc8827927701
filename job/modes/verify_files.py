"""A run's files: which there are, and each as it must be by the results."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from importlib.metadata import version

from job import report
from job.modes import verify_exports
from job.modes.export_formats import FORMATS
from job.modes.verify_results import rebuilt
from job.modes.verify_rows import EXACT, Facts, Row, judged
from job.report import answers
from job.report.reading import differing
from job.results import rate
from job.runs import finished, manifest, status, taking

OWN = (manifest.NAME, status.NAME, taking.NAME)  # what stands beside a run's files and in no manifest
PICTURE = re.compile(r'<svg .*?</svg>|"data:image/png;base64,[^"]*"', re.DOTALL)
COMPARED_ELSEWHERE = ("results.json", answers.FILE)


def listing(facts: Facts) -> Iterator[Row]:
    """Whether what the manifest names is there (else verify would not have come so far), and what else is."""
    yield Row("files", "equal", f"{len(facts.manifest['files'])} are there and whole, as the manifest names them")
    more = [name for name in facts.found.store.list() if name not in facts.manifest["files"] and name not in OWN]
    if more:
        yield Row("other files", "not compared", f"the manifest does not name {', '.join(more)}")


def rows(facts: Facts) -> Iterator[Row]:
    """Each file that is made from the results, made again."""
    made = report.files(rebuilt(facts))
    for name, now in made.items():
        if name in COMPARED_ELSEWHERE:
            continue
        if name not in facts.manifest["files"]:
            yield Row(name, "not compared", "the manifest does not name it")
        elif (was := finished.read(facts.found, name)) == now:
            yield Row(name, "equal", "made again from the results, to the last byte")
        elif name.endswith(".csv"):
            yield table(name, was, now)
        elif name.endswith(".png"):
            yield picture(facts, name)
        else:
            yield text(facts, name, was.decode(), now.decode())
    yield from verify_exports.rows(facts)
    told = {name for each in FORMATS.values() for name in (each.file, each.sidecar)}
    others = sorted(set(facts.manifest["files"]) - set(made) - told - {finished.MODEL, finished.WEIGHTS})
    if others:
        yield Row(", ".join(others), "not compared", "no file of this version of the job")


def table(name: str, was: bytes, now: bytes) -> Row:
    """Line by line and column by column, those columns that this version writes."""
    said, wanted = (list(csv.DictReader(io.StringIO(content.decode(), newline=""))) for content in (was, now))
    return judged(name, list(differing(said, wanted)), "every column that this version writes")


def picture(facts: Facts, name: str) -> Row:
    if facts.wanted == EXACT and facts.same_code and same_matplotlib(facts):
        return Row(name, "differs", "drawn again it is another picture")
    return Row(name, "not compared", "drawn on another machine, by another version of job/ or of matplotlib")


def same_matplotlib(facts: Facts) -> bool:
    return bool(facts.results["provenance"]["versions"].get("matplotlib") == version("matplotlib"))


def text(facts: Facts, name: str, was: str, now: str) -> Row:
    """A page or a text. Its drawings count where they must come out the same; laid out by another version of the job,
    it must still show the run's figures.
    """
    bare_was, bare_now = (PICTURE.sub("", page) for page in (was, now))
    if bare_was == bare_now:
        drawn = picture(facts, name)
        return drawn if drawn.verdict == "differs" else Row(name, "near", "all but its pictures, to the last byte")
    if facts.same_code:
        pairs = zip(bare_was.splitlines(), bare_now.splitlines(), strict=False)
        first = next((f"“{old.strip()}” must be “{new.strip()}”" for old, new in pairs if old != new), "its length")
        return Row(name, "differs", first if len(first) <= 300 else f"{first[:299]}…")
    recipe = facts.results["recipe"]
    figures = (f"{facts.said.loss:.4f}", f"{facts.said.accuracy:.2f}", rate(recipe["learning_rate"]))
    lacking = [f"it does not show {figure}" for figure in figures if figure not in was]
    if lacking:
        return judged(name, lacking, "")
    return Row(
        name, "not compared", "another version of the job laid it out; it shows loss, accuracy and learning rate"
    )
