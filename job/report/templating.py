"""Pages and Markdown from `templates/`. The only importer of Jinja2.

Whatever a run's names hold, the templates escape it; a name that a template misspells is an error, not an empty place.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from job.report import words
from job.report.plots.drawing import svg
from job.results import rate

TEMPLATES = Path(__file__).with_name("templates")
EXACT = 64  # pixels a side: so small an image is shown with every pixel of it
SHOWN = 128  # pixels a side: of larger ones a page shows no more


@dataclass(frozen=True)
class Section:
    """A part of a page: `template` lays `content` out, which it calls `it`. Without a heading no link leads to it."""

    id: str
    heading: str
    template: str
    content: Any


@dataclass(frozen=True)
class Drawing:
    """A picture as an `<svg>` element, with what it shows in words for those who do not see it."""

    svg: Markup
    alternative: str
    caption: str = ""
    square: bool = False


def drawing(figure: Figure, name: str, alternative: str, caption: str = "", square: bool = False) -> Drawing:
    """`name` is the picture's own within the page."""
    return Drawing(Markup(svg(figure, name)), alternative, caption, square)


def address(pixels: NDArray[np.uint8], side: int = 0) -> str:
    """uint8 `[rows, columns, 3]` as the address of a picture within the page; `side` is that of the images in it, where
    that is not its rows. Photographs are reduced and JPEG: as PNG a page of them takes ten times the room and time.
    """
    out, image, side = io.BytesIO(), Image.fromarray(pixels), side or len(pixels)
    if side <= EXACT:
        kind = "png"
        image.save(out, format=kind, optimize=True)
    else:
        kind = "jpeg"
        image.reduce(-(-side // SHOWN)).save(out, format=kind, quality=90)
    return f"data:image/{kind};base64,{base64.b64encode(out.getvalue()).decode()}"


@cache
def environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {name: getattr(words, name) for name in words.FILTERS} | {"cell": cell, "rate": rate}
    return made


def cell(text: str) -> Markup:
    """Text as it may stand in a Markdown table: in one line, and no `|` of it begins another column."""
    return escape(" ".join(text.split())).replace("|", "\\|")


def render(template: str, **values: Any) -> str:
    """The template with these values. Raises jinja2.UndefinedError where it names another one."""
    return environment().get_template(template).render(**values)


def page(title: str, lead: str, sections: list[Section], footer: str) -> str:
    """A whole page that stands alone: no script, no network, light and dark, for paper and telephone."""
    return render("page.html", title=title, lead=lead, sections=sections, footer=footer)
