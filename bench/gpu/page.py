"""What was found as one folder: a page, the same as JSON, what the steps printed, pictures."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.gpu.steps import Note, Outcome

PAGE, JSON, LOG = "gpu.md", "gpu.json", "gpu.log"
CHOICE = "computes on"  # of the table "machine": the device as the job names it
FILES = 8  # at most: a page, JSON, a log and pictures


@dataclass(frozen=True)
class About:
    """What was asked for: on which device, within which seconds, with which images, as a rehearsal or not."""

    device: str
    budget: float
    images: str
    rehearsal: bool
    started: str


def write(folder: Path, about: About, outcomes: Sequence[Outcome], waiting: Sequence[str], seconds: float) -> None:
    """Page and JSON, at once and whole."""
    content = {
        "about": asdict(about),
        "seconds": round(seconds, 1),
        "verdict": verdict(outcomes),
        "steps": [as_json(outcome) for outcome in outcomes],
        "waiting": list(waiting),
    }
    replace(folder / JSON, json.dumps(content, indent=1) + "\n")
    replace(folder / PAGE, page(about, outcomes, waiting, seconds))


def as_json(outcome: Outcome) -> dict[str, Any]:
    return asdict(outcome) | {"step": outcome.step.name, "estimate": outcome.step.seconds}


def replace(file: Path, text: str) -> None:
    part = file.with_suffix(".part")
    part.write_text(text)
    part.replace(file)


def verdict(outcomes: Iterable[Outcome]) -> str:
    """One line for whoever reads nothing else."""
    names = {
        kind: [o.step.name for o in outcomes if o.outcome == kind]
        for kind in ("passed", "failed", "cut off", "skipped")
    }
    return "; ".join(f"{len(found)} {kind} ({', '.join(found)})" for kind, found in names.items() if found)


def page(about: About, outcomes: Sequence[Outcome], waiting: Sequence[str], seconds: float) -> str:
    title = (
        "REHEARSAL ON A CPU: proves the script, not a GPU"
        if about.rehearsal
        else f"Does {card(outcomes) or about.device} compute right?"
    )
    lines = [f"# {title}", "", f"{about.started}, {seconds:.0f} s of {about.budget:.0f} s; images: {about.images}.", ""]
    lines += [f"**{verdict(outcomes)}.**", ""]
    if waiting:
        lines += [f"Still to come: {', '.join(waiting)}.", ""]
    rows = [
        {"step": o.step.name, "what": o.step.title, "outcome": o.outcome.upper() if o.outcome != "passed" else "passed",
         "s": round(o.seconds, 1), "estimate": round(o.step.seconds), "why": o.why}
        for o in outcomes
    ]  # fmt: skip
    lines += [*table(rows), ""]
    for name, notes in tables(outcomes).items():
        shown = [mark(note) for note in notes]
        lines += [f"## {name[:1].upper()}{name[1:]}", "", *table(shown), ""]
    return "\n".join(lines)


def tables(outcomes: Iterable[Outcome]) -> dict[str, list[Note]]:
    """The notes of all steps by table, in the order in which the tables came up."""
    found: dict[str, list[Note]] = {}
    for outcome in outcomes:
        for note in outcome.notes:
            found.setdefault(note.table, []).append(note)
    return found


def card(outcomes: Iterable[Outcome]) -> str:
    """What the steps found to compute on; empty where none could say."""
    rows = [note.row for note in tables(outcomes).get("machine", []) if note.row.get("what") == CHOICE]
    return str(rows[0]["is"]) if rows else ""


def mark(note: Note) -> dict[str, Any]:
    shown = {name: value for name, value in note.row.items() if not isinstance(value, (list, dict))}
    return shown if note.passed is None else shown | {"holds": "yes" if note.passed else "**NO**"}


def table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """A Markdown table with every column that any row has."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    if not columns:
        return []
    lines = [columns, ["---"] * len(columns)]
    lines += [[cell(row.get(name, "")) for name in columns] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def cell(value: Any) -> str:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
