"""`make pictures`: the tables of README.md and bench/README.md as pictures, docs/models.svg and bench/speed.svg.

The tables are the data: whoever changes them draws anew. Each picture has the page's colours, light and dark, and text
that stays text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from bench.picture import ratios
from job.report.plots.drawing import TRAIN, small_figure, svg

ROOT = Path(__file__).parent.parent
STYLE = """<style>
svg { font-family: system-ui, sans-serif; --ink: #1a1a1a; --surface: #fff; --rule: #c8c8c8; --faint: #757575;
  --blue: #0072b2; --orange: #c24e00; --green: #00795a }
@media (prefers-color-scheme: dark) { svg { --ink: #e8e8e8; --surface: #0d1117; --rule: #484848; --faint: #9a9a9a;
  --blue: #56b4e9; --orange: #f0935a; --green: #3ec79c } }
text { fill: var(--ink) }
</style>
"""
NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '


def table(page: str, heading: str) -> list[list[str]]:
    """The cells of the rows below the heading line that starts with `heading`, without Markdown's signs."""
    lines = page.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([re.sub(r"[`*]", "", cell).strip() for cell in line.strip().strip("|").split("|")])
    return rows


def models(rows: Sequence[Sequence[str]]) -> Figure:
    """Test accuracy with its interval, a line a run, from rows as README.md has them."""
    figure, axes = small_figure((8.6, 0.9 + 0.42 * len(rows)))
    numbers = [[float(number) for number in re.findall(r"\d+\.\d+", row[2])] for row in rows]
    order = sorted(range(len(rows)), key=lambda place: numbers[place][0])
    for height, place in enumerate(order):
        accuracy, low, high = numbers[place]
        axes.plot([low, high], [height, height], color=TRAIN, linewidth=5, alpha=0.35, solid_capstyle="butt")
        axes.plot(accuracy, height, "o", color=TRAIN, markersize=6)
        said = f"{accuracy:.2f} % · {rows[place][4]} epochs · {rows[place][6]}"
        axes.annotate(said, (high, height), (8, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set_yticks(range(len(rows)), [rows[place][0] for place in order])
    axes.set(
        xlabel="test accuracy (%), with its 95 % interval; time of the training",
        xlim=(45, 115),
        ylim=(-0.6, len(rows) - 0.4),
    )
    axes.set_xticks(range(50, 101, 10))
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_bounds(45, 100)
    axes.xaxis.label.set_x(0.4)
    return figure


def speed(rows: Sequence[Sequence[str]]) -> Figure:
    """How many times the job's time the others take, from rows as bench/README.md has them."""
    titles = ("notebook", "tuned loader", "Lightning fp32", "Lightning bf16", "limit")
    results = {
        row[0]: {
            "median_seconds": dict.fromkeys((*titles, "job"), 1.0),
            "over_job": {title: float(cell) for title, cell in zip(titles, row[1:], strict=False)},
        }
        for row in rows
    }
    return ratios(results, "one epoch with its evaluation, on two CPU cores")


def standing_alone(figure: Figure, name: str, title: str) -> str:
    drawn = svg(figure, name).replace("<svg ", f"<svg {NAMESPACES}", 1).replace(' aria-hidden="true"', ' role="img"', 1)
    head, _, rest = drawn.partition(">")
    return f"{head}>\n<title>{title}</title>\n{STYLE}{rest}\n"


def pictures() -> dict[Path, str]:
    """Each picture with its place."""
    readme, bench = ((ROOT / name).read_text() for name in ("README.md", "bench/README.md"))
    return {
        ROOT / "docs/models.svg": standing_alone(
            models(table(readme, "| model | parameters")), "models", "Test accuracy of the runs in the table below"
        ),
        ROOT / "bench/speed.svg": standing_alone(
            speed(table(bench, "| | notebook | tuned loader")), "speed", "Time of an epoch in times of the job's"
        ),
    }


if __name__ == "__main__":
    for place, content in pictures().items():
        place.write_text(content)
        print(place.relative_to(ROOT))
