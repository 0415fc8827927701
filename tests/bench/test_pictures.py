"""The pictures of README.md and bench/README.md show what the tables beside them say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from bench import pictures
from tests.conftest import ROOT

DRAWN = pictures.pictures()


@pytest.mark.parametrize("place", DRAWN, ids=lambda place: place.name)
def test_a_picture_is_that_of_its_table(place) -> None:  # type: ignore[no-untyped-def]
    """By its texts: where lines end depends on the version of matplotlib. `make pictures` draws them anew."""
    stored, now = (texts(content) for content in (place.read_text(), DRAWN[place]))
    assert stored == now


@pytest.mark.parametrize("page", ["README.md", "bench/README.md"])
def test_the_pages_show_them(page: str) -> None:
    folder = (ROOT / page).parent
    shown = [folder / name for name in re.findall(r'<img src="([^"]+\.svg)"', (ROOT / page).read_text())]
    assert shown
    assert set(shown) <= set(DRAWN)


def texts(content: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(content).iter("{http://www.w3.org/2000/svg}text")]
