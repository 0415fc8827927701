"""A page of predicted images with what the network looked at in each: `heatmaps/00001.html` and those after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.report.seen import WORDS, overlay
from job.report.templating import Section, address, page


@dataclass(frozen=True)
class Seen:
    """An image's `name`, its answer with the confidence, or why there is none; `pixels` uint8 `[rows, columns, 3]`;
    `heat` from 0 to 1, float32 `[rows, columns]`, None where there is none.
    """

    name: str
    answer: str
    confidence: float
    failure: str
    pixels: NDArray[np.uint8]
    heat: NDArray[np.float32] | None


@dataclass(frozen=True)
class Place:
    """Which of the pages this is, both from 1, and which of all images are on it."""

    number: int
    pages: int
    first: int
    last: int
    images: int


@dataclass(frozen=True)
class Shown:
    """Addresses of what is shown of an image; empty ones where there is nothing."""

    seen: Seen
    picture: str
    heat: str


@dataclass(frozen=True)
class Content:
    sentence: str
    images: tuple[Shown, ...]
    before: str
    after: str


def file_name(number: int) -> str:
    return f"{number:05}.html"


def html(images: Sequence[Seen], place: Place, method: str) -> bytes:
    """`method` is a key of `seen.WORDS`."""
    content = Content(
        WORDS[method],
        tuple(shown(each) for each in images),
        file_name(place.number - 1) if place.number > 1 else "",
        file_name(place.number + 1) if place.number < place.pages else "",
    )
    lead = f"Images {place.first:,} to {place.last:,} of {place.images:,}, in the order of predictions.csv."
    sections = [Section("images", "", "predictions/heats.html", content)]
    footer = f"Page {place.number:,} of {place.pages:,}."
    return page("What the network looked at", lead, sections, footer).encode(errors="backslashreplace")


def shown(seen: Seen) -> Shown:
    if seen.failure:
        return Shown(seen, "", "")
    return Shown(seen, address(seen.pixels), "" if seen.heat is None else address(overlay(seen.pixels, seen.heat)))
