"""What of a prediction is stored already: parts of many images, each whole or not there, and put together at the end.

A part is called by its number and by what its rows come from: weights, arithmetic, columns, and of each image the name
with what tells another content (`Inputs.mark`). So a start after a kill takes what fits and computes the rest, and the
file at the end is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from job.data.inputs import Inputs
from job.errors import TemporaryFault
from job.interrupt import Stop
from job.modes.predict_rows import Answer
from job.runs import publish
from job.storage import ArtifactStore

SIZE = 1000  # images of a part: what a kill costs at most
FORMAT = 1  # of a part


@dataclass(frozen=True)
class Part:
    """The images `of`, by their places among all. `name` is empty where nothing tells whether they are the same."""

    number: int
    of: range
    name: str


@dataclass(frozen=True)
class Outcome:
    """A part's rows, and the names of the images without an answer, with the reason."""

    rows: bytes
    bad: Sequence[tuple[str, str]]
    may_mend: bool = False


def planned(images: Inputs, made_from: Mapping[str, Any], stop: Stop) -> list[Part]:
    """All images in parts, in order. `made_from` is what the rows depend on beside the images."""
    parts = []
    for number, start in enumerate(range(0, len(images), SIZE)):
        stop.check()
        of = range(start, min(start + SIZE, len(images)))
        marks = [(images.name(key), images.mark(key)) for key in images.keys[start : of.stop]]
        known = all(mark is not None for _, mark in marks)
        content = json.dumps([FORMAT, dict(made_from), marks], sort_keys=True)
        digest = hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()
        parts.append(Part(number, of, f"{number:06}-{digest[:32]}" if known else ""))
    return parts


def outcome(answers: Sequence[Answer], rows: str) -> Outcome:
    bad = [(answer.name, answer.failure) for answer in answers if answer.probabilities is None]
    return Outcome(rows.encode(errors="backslashreplace"), bad, any(answer.may_mend for answer in answers))


class Kept:
    """The parts of one prediction below `folder` of a store."""

    def __init__(self, store: ArtifactStore, folder: str) -> None:
        self.store = store
        self.folder = folder
        self.passing: dict[int, Outcome] = {}  # parts that are not to be found by a later start

    def names(self) -> set[str]:
        """Those that are there."""
        start = f"{self.folder}/"
        return {name.removeprefix(start) for name in self.store.list(start)}

    def put(self, part: Part, found: Outcome) -> None:
        """Stores it, durably, unless a later start should look at its images again."""
        if found.may_mend or not part.name:
            self.passing[part.number] = found
            return
        head = {"sha256": hashlib.sha256(found.rows).hexdigest(), "bad": found.bad}
        content = json.dumps(head).encode() + b"\n" + found.rows
        publish.put_checked(self.store, f"{self.folder}/{part.name}", content)

    def get(self, part: Part) -> Outcome:
        """Raises TemporaryFault where it is not there any more, or damaged, in which case it is removed."""
        if part.number in self.passing:
            return self.passing[part.number]
        name = f"{self.folder}/{part.name}"
        content = self.store.get(name)
        if content is None:
            raise TemporaryFault(
                f"{self.store.uri}/{name} is not there any more: another job predicts in the same place.",
                "Let it end, then start the same command again; or name another OUTPUT.",
            )
        head, _, rows = content.partition(b"\n")
        try:
            said = json.loads(head)
            bad = [(str(image), str(reason)) for image, reason in said["bad"]]
            whole = said["sha256"] == hashlib.sha256(rows).hexdigest()
        except (ValueError, KeyError, TypeError):
            whole = False
        if not whole:
            self.store.delete(name)
            raise TemporaryFault(f"{self.store.uri}/{name} was damaged, and is removed.", "Start again: it goes on.")
        return Outcome(rows, bad)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            self.store.delete(f"{self.folder}/{name}")
