"""What all pictures share: colours, a small figure, and how a figure becomes PNG or a page's SVG."""

from __future__ import annotations

import io
import re
import warnings

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from job.report.plots.fonts import coverage

# Colours from Okabe and Ito, distinguishable with colour blindness (https://jfly.uni-koeln.de/color/).
TRAIN, TEST, WINNER, FAILED = "#0072B2", "#D55E00", "#009E73", "#999999"

# What matplotlib draws in, and the page's own variable for it: one picture for light and dark.
THEMED = {
    "#000000": "var(--ink)",
    "#ffffff": "var(--surface)",
    "#b0b0b0": "var(--rule)",
    "#cccccc": "var(--rule)",
    TRAIN.lower(): "var(--blue)",
    TEST.lower(): "var(--orange)",
    WINNER.lower(): "var(--green)",
    FAILED.lower(): "var(--faint)",
}


def small_figure(size: tuple[float, float] = (4.8, 3.4)) -> tuple[Figure, Axes]:
    """A figure that stays legible on a telephone, `size` inches large."""
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.5, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def shorter(name: str, length: int = 18) -> str:
    """At most `length` characters, and no formula for matplotlib where dollars are part of the name."""
    return (name if len(name) <= length else f"{name[: length - 1]}…").replace("$", r"\$")


def svg(figure: Figure, name: str) -> str:
    """The picture as an `<svg>` element for a page that defines the colours in `THEMED`.

    Text stays text; `name` makes the ids unique within the page; equal runs give equal bytes.
    """
    out = io.StringIO()
    with (
        matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "savefig.transparent": True}),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # the reader's fonts count, not those here
        figure.savefig(out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    drawing = out.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>\s*", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'<g id="[^"]*">', "<g>", drawing)
    drawing = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawing)
    for colour, variable in THEMED.items():
        drawing = drawing.replace(f": {colour}", f": {variable}")
    drawing = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font-size: \1", drawing)
    return re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', drawing, count=1).strip()


def png(figure: Figure) -> bytes:
    """The picture as PNG, without the version that matplotlib would write into it: equal runs give equal bytes."""
    out = io.BytesIO()
    texts = tuple(text.get_text() for text in figure.findobj(Text))
    with matplotlib.rc_context({"savefig.dpi": 144}):
        for text in figure.findobj(Text):
            text.set_fontfamily(list(coverage(texts)[0]))
        figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()
