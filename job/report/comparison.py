"""Finished runs side by side: `summary.html`, `summary.txt` and `summary.csv`."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import combinations
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, NullFormatter

from job.report import style
from job.report.metrics import Z95, two_proportions, wilson
from job.report.plots import TRAIN, small_figure, svg
from job.report.records import data_name
from job.report.tables import as_csv
from job.report.text import dollars, duration

RULE = "=" * 50
MARGINS = (52, 46)  # of a figure, for its ticks and labels, in points
FONT, LETTER = 9, 5.2  # the size of a name in a plot and how wide one of its letters is on average, in points


@dataclass(frozen=True)
class Run:
    """What a comparison needs of a finished run. `recalls` are class → (found, all), empty for an old run's results."""

    name: str
    model: str
    dataset: str
    data_sha256: str
    train_images: int
    images: int
    correct: int
    loss: float
    parameters: int
    learning_rate: float
    epochs: int
    tuning_seconds: float
    training_seconds: float
    hardware: str
    precision: str
    recalls: dict[str, tuple[int, int]]
    origin: str = ""

    @property
    def accuracy(self) -> float:
        return self.correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.correct, self.images)

    @property
    def seconds(self) -> float:
        return self.tuning_seconds + self.training_seconds


def run_from(name: str, manifest: dict[str, Any], results: dict[str, Any]) -> Run:
    """The run in the folder `name`. Raises KeyError, TypeError or ValueError for results that are none."""
    images = int(results["data"]["test_images"])
    evaluation = results.get("evaluation", {"classes": [], "confusion_matrix": []})
    return Run(
        name=name,
        model=str(results["model"]["name"]),
        dataset=str(results["data"]["name"]),
        data_sha256=str(manifest["data_sha256"]),
        train_images=int(results["data"]["train_images"]),
        images=images,
        correct=round(results["test"]["accuracy_percent"] * images / 100),
        loss=float(results["test"]["loss"]),
        parameters=int(results["model"]["parameters"]),
        learning_rate=float(results["recipe"]["learning_rate"]),
        epochs=int(results["recipe"]["epochs"]),
        tuning_seconds=float(results["tuning"]["seconds"]),
        training_seconds=float(results["training"]["seconds"]),
        hardware=str(results["provenance"]["hardware"]),
        precision=str(results["provenance"]["precision"]),
        recalls={
            str(score["name"]): (int(row[index]), int(score["support"]))
            for index, (score, row) in enumerate(
                zip(evaluation["classes"], evaluation["confusion_matrix"], strict=True)
            )
        },
        origin=str(results["data"].get("origin", "")),
    )


def files(runs: Sequence[Run], left_out: Sequence[str], price_per_hour: float | None) -> dict[str, bytes]:
    """File name → content. `left_out` says of each run that is not among them why; the price is in USD."""
    groups = grouped(runs)
    return {
        "summary.html": html(groups, left_out, price_per_hour).encode(),
        "summary.txt": text(groups, left_out, price_per_hour).encode(),
        "summary.csv": csv(groups, price_per_hour).encode(),
    }


def grouped(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by data set, large groups first, and within each the most accurate first."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.data_sha256, []).append(run)
    for group in groups.values():
        group.sort(key=lambda run: (-run.accuracy, run.loss, run.name))
    return sorted(groups.values(), key=lambda group: (-len(group), group[0].dataset, group[0].data_sha256))


def title(group: Sequence[Run]) -> str:
    first = group[0]
    return f"{data_name(first.dataset, first.origin)}: {first.train_images:,} training and {first.images:,} test images"


def labels(group: Sequence[Run]) -> list[str]:
    """The models' names; a run's own name where several are of one model."""
    often = Counter(run.model for run in group)
    return [run.model if often[run.model] == 1 else run.name for run in group]


def cost(run: Run, price_per_hour: float) -> float:
    """USD for tuning and training; loading, evaluation and upload are not in it."""
    return price_per_hour * run.seconds / 3600


def differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two shares, (right, all) each, differ by more than chance at the 95 % level."""
    return abs(two_proportions(*one, *other)) >= Z95


# ---- text and table ----


def csv(groups: Sequence[Sequence[Run]], price_per_hour: float | None) -> str:
    """`summary.csv`: one line a run, the runs of one data set together."""
    return as_csv(
        [
            {
                "run": run.name,
                "model": run.model,
                "dataset": run.dataset,
                "data_sha256": run.data_sha256,
                "test_images": run.images,
                "accuracy_percent": 100 * run.accuracy,
                "accuracy_low_percent": 100 * run.interval[0],
                "accuracy_high_percent": 100 * run.interval[1],
                "test_loss": run.loss,
                "parameters": run.parameters,
                "learning_rate": run.learning_rate,
                "epochs": run.epochs,
                "tuning_seconds": run.tuning_seconds,
                "training_seconds": run.training_seconds,
                "cost_usd": None if price_per_hour is None else cost(run, price_per_hour),
                "hardware": run.hardware,
                "precision": run.precision,
            }
            for group in groups
            for run in group
        ]
    )


def text(groups: Sequence[Sequence[Run]], left_out: Sequence[str], price_per_hour: float | None) -> str:
    """`summary.txt`: a table for each data set, then which runs cannot be told apart."""
    lines = [RULE, "Summary".center(50).rstrip(), RULE]
    if len(groups) > 1:
        lines += several(groups), RULE
    for group in groups:
        names = labels(group)
        width = max(len(name) for name in (*names, "run"))
        lines += [f"[{title(group)}]", f"  data {group[0].data_sha256[:16]}", ""]
        head = f"  {'run':{width}}  accuracy  95 % interval    loss    parameters  tuning    training"
        lines.append(head + ("      cost" if price_per_hour else ""))
        for name, run in zip(names, group, strict=True):
            low, high = (100 * end for end in run.interval)
            line = (
                f"  {name:{width}}  {100 * run.accuracy:6.2f} %  {low:5.2f} to {high:5.2f} %  {run.loss:6.4f}  "
                f"{run.parameters:>10,}  {duration(run.tuning_seconds):>8}  {duration(run.training_seconds):>8}"
            )
            lines.append(line + (f"  {dollars(cost(run, price_per_hour)):>11}" if price_per_hour else ""))
        same = [
            f"  {one} and {other}: {100 * (a.accuracy - b.accuracy):.2f} points apart, within chance"
            for (one, a), (other, b) in combinations(zip(names, group, strict=True), 2)
            if not differ((a.correct, a.images), (b.correct, b.images))
        ]
        if len(group) > 1:
            lines += ["", *(same or ["  every difference is larger than chance (95 % level)"])]
        lines.append(RULE)
    if left_out:
        lines += ["[Left out]", *(f"  - {reason}" for reason in left_out), RULE]
    return "\n".join(lines) + "\n"


def several(groups: Sequence[Sequence[Run]]) -> str:
    return f"{len(groups)} different data sets: figures of different ones do not compare, so each stands by itself."


# ---- the page ----


def html(groups: Sequence[Sequence[Run]], left_out: Sequence[str], price_per_hour: float | None) -> str:
    """`summary.html`."""
    count = sum(len(group) for group in groups)
    lead = f"{count} finished run{'s' * (count > 1)}."
    if len(groups) > 1:
        lead += f" {several(groups)}"
    sections = []
    for number, group in enumerate(groups, 1):
        sections.append((f"data-{number}", escape(title(group)), section(group, price_per_hour, number)))
    if left_out:
        items = "".join(f"<li>{escape(reason)}</li>" for reason in left_out)
        sections.append(("left-out", "Left out", f"<p>These are not what their manifests say:</p><ul>{items}</ul>"))
    header = f'<h1>Runs side by side</h1><p class="lead">{lead}</p>'
    return style.document("Runs side by side", header, sections, "This page is one file and loads nothing.")


def section(group: Sequence[Run], price_per_hour: float | None, number: int) -> str:
    parts = [f'<p class="note">Data SHA-256 {group[0].data_sha256}</p>', overview(group, price_per_hour)]
    if len(group) > 1:
        parts += [pictures(group, number, price_per_hour), differences(group), per_class(group)]
    return "\n".join(parts)


def overview(group: Sequence[Run], price_per_hour: float | None) -> str:
    computers = sorted({f"{run.hardware}, {run.precision}" for run in group})
    columns = ["Run", "Accuracy", "95 % interval", "Test loss", "Parameters", "Learning rate", "Epochs"]
    columns += ["Tuning", "Training", *(["Cost"] if price_per_hour else [])]
    columns += ["|Computed on"] if len(computers) > 1 else []
    rows = [
        [
            escape(name),
            style.bar(run.accuracy, f"{100 * run.accuracy:.2f} %"),
            f"{100 * run.interval[0]:.2f} to {100 * run.interval[1]:.2f}",
            f"{run.loss:.4f}",
            f"{run.parameters:,}",
            f"{run.learning_rate:.6f}",
            str(run.epochs),
            duration(run.tuning_seconds),
            duration(run.training_seconds),
            *([dollars(cost(run, price_per_hour))] if price_per_hour else []),
            *([escape(f"{run.hardware}, {run.precision}")] if len(computers) > 1 else []),
        ]
        for name, run in zip(labels(group), group, strict=True)
    ]
    notes = [f"All computed on {escape(computers[0])}."] if len(computers) == 1 < len(group) else []
    if len({run.hardware for run in group}) > 1:
        notes.append("Times were measured on different hardware and do not compare.")
    if price_per_hour:
        notes.append(f"Cost: tuning and training at {price_per_hour:g} USD an hour, nothing else.")
    below = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return style.table("The most accurate first", columns, rows) + below


def pictures(group: Sequence[Run], number: int, price_per_hour: float | None) -> str:
    def described(what: str) -> str:
        points = (f"{name} {100 * run.accuracy:.1f} %" for name, run in zip(labels(group), group, strict=True))
        return f"Test accuracy against {what}: {', '.join(points)}."

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    inches = (3.7, 3.1) if price_per_hour else (4.8, 3.4)  # three of them in a row are smaller
    size = against(group, "parameters", lambda run: run.parameters, EngFormatter(sep=""), inches)
    clock = against(group, "training time (minutes)", lambda run: max(run.training_seconds, 0.01) / 60, plain, inches)
    drawings = [
        style.plot(svg(size, f"size-{number}"), described("parameters"), "Lines are 95 % intervals."),
        style.plot(svg(clock, f"time-{number}"), described("training time")),
    ]
    if price_per_hour:
        price = against(group, "cost (USD)", lambda run: max(cost(run, price_per_hour), 1e-6), plain, inches)
        drawings.append(style.plot(svg(price, f"cost-{number}"), described("cost"), "Cost of tuning and training."))
    return f'<div class="pair{" triple" * (len(drawings) == 3)}">{"".join(drawings)}</div>'


def against(
    group: Sequence[Run],
    label: str,
    value: Callable[[Run], float],
    formatter: FuncFormatter | EngFormatter,
    size: tuple[float, float],
) -> Figure:
    """Accuracy with its interval over `value` on a log scale; `size` is the figure's, in inches."""
    figure, axes = small_figure(size)
    values = [value(run) for run in group]
    for run, x in zip(group, values, strict=True):
        low, high = (100 * end for end in run.interval)
        axes.plot([x, x], [low, high], color=TRAIN, linewidth=1.5, alpha=0.6)
        axes.plot(x, 100 * run.accuracy, "o", color=TRAIN, markersize=6)
    axes.set_xscale("log")
    axes.set_xlim(min(values) / 1.6, max(values) * 1.6)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(values) / min(values) < 30 else (1,)))
    axes.xaxis.set_major_formatter(formatter)
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=f"{label}, log scale", ylabel="test accuracy (%)")
    width, height = (72 * inches - margin for inches, margin in zip(size, MARGINS, strict=True))
    left, right = (math.log(end) for end in axes.get_xlim())
    bottom, top = axes.get_ylim()
    points = [
        ((math.log(x) - left) / (right - left) * width, (100 * run.accuracy - bottom) / (top - bottom) * height)
        for run, x in zip(group, values, strict=True)
    ]
    for name, run, x, (dx, dy) in zip(
        labels(group), group, values, places(labels(group), points, width, height), strict=True
    ):
        axes.annotate(
            name,
            (x, 100 * run.accuracy),
            xytext=(dx, dy),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=FONT,
        )
    return figure


def places(
    names: Sequence[str], points: Sequence[tuple[float, float]], width: float, height: float
) -> list[tuple[float, float]]:
    """Where each name's middle goes, relative to its point, so that names meet neither each other nor a point.

    `points` are in an area of `width` times `height`, all in printer's points. Where everything is taken, a name goes
    to the right of its point: rather on top of another one than nowhere.
    """
    dot = 4.0
    taken = [(x - dot, y - dot, x + dot, y + dot) for x, y in points]
    found = []
    for name, (x, y) in zip(names, points, strict=True):
        half, line = 0.5 * LETTER * len(name), 0.6 * FONT
        beside, above = dot + 2 + half, dot + 1 + line
        options = [(beside, 0.0), (-beside, 0.0), (0.0, above), (0.0, -above)]
        options += [(side * beside, up * step * line) for step in (1, 2, 3, 4) for up in (-1, 1) for side in (1, -1)]
        boxes = [(x + dx - half, y + dy - line, x + dx + half, y + dy + line) for dx, dy in options]
        free = (
            number
            for number, (left, low, right, high) in enumerate(boxes)
            if left >= 0
            and right <= width
            and low >= -line
            and not any(left < other[2] and other[0] < right and low < other[3] and other[1] < high for other in taken)
        )
        chosen = next(free, 0)
        found.append(options[chosen])
        taken.append(boxes[chosen])
    return found


def differences(group: Sequence[Run]) -> str:
    """Every pair of runs: row minus column in percentage points, and whether chance explains it."""
    names = [escape(name) for name in labels(group)]
    rows = []
    for name, run in zip(names, group, strict=True):
        cells = [name]
        for other in group:
            points = f"{100 * (run.accuracy - other.accuracy):+.2f}".replace("-", "−")
            if run is other:
                cells.append("–")
            elif differ((run.correct, run.images), (other.correct, other.images)):
                cells.append(points)
            else:
                cells.append(f'<td style="color:var(--soft)">{points} (chance)</td>')
        rows.append(cells)
    caption = "Difference in accuracy, row minus column, in percentage points"
    return (
        "<h3>Which differences count</h3>"
        + style.table(caption, ("Run", *names), rows)
        + '<p class="note">“Chance”: within what test sets of this size leave open, by the z-test of two proportions '
        "at the 95 % level. It takes the results as independent; models tested on the same images agree "
        "more than that, so it rather overlooks a small difference (Dietterich 1998). Another seed changes results as "
        "well.</p>"
    )


def per_class(group: Sequence[Run]) -> str:
    """Recall of each class in each run, and whether its best and worst run differ by more than chance."""
    known = [(name, run) for name, run in zip(labels(group), group, strict=True) if run.recalls]
    if len(known) < 2:
        return ""
    rows = []
    for name in known[0][1].recalls:
        found = [run.recalls[name] for _, run in known]
        shares = [hits / count if count else 0.0 for hits, count in found]
        best, worst = shares.index(max(shares)), shares.index(min(shares))
        spread = f"{100 * (shares[best] - shares[worst]):.1f}"
        counts = found[best][1] > 0 and differ(found[best], found[worst])
        rows.append(
            [
                escape(name),
                *(style.bar(share, f"{100 * share:.1f}") for share in shares),
                spread if counts else f'<td style="color:var(--soft)">{spread} (chance)</td>',
            ]
        )
    columns = ("Class", *(escape(name) for name, _ in known), "Best minus worst")
    return (
        "<h3>Class by class</h3>"
        + style.table("Recall: percent of each class’s test images that are found", columns, rows)
        + '<p class="note">Where no class differs at all, one in twenty would still look as if it did.</p>'
    )
