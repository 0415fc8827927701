"""A step's process: `python -m bench.gpu.work STEP --device ... --notes FILE`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from bench.gpu.steps import Notes


@dataclass(frozen=True)
class Wanted:
    """What a step is told: where to compute, whether this is a rehearsal with the smallest sizes, real images."""

    device: str
    rehearse: bool
    images: Path | None
    scratch: Path
    notes: Notes


# A step's name up to its first "-" to what does it: a module of this folder and its function.
DOES = {
    "facts": ("facts", "collect"),
    "replay": ("replays", "prove"),
    "resume": ("resumes", "prove"),
    "stacks": ("stacks", "prove"),
    "speed": ("speeds", "measure"),
    "tests": ("suites", "engine_tests"),
    "trials": ("suites", "trials"),
    "run": ("runs", "run"),
    "sanitizer": ("runs", "sanitize"),
    "bench": ("suites", "bench"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--images", type=Path)
    parser.add_argument("--notes", type=Path, required=True)
    told = parser.parse_args()
    kind, _, name = told.step.partition("-")
    module, function = DOES[kind]
    does: Callable[..., object] = getattr(import_module(f"bench.gpu.{module}"), function)
    scratch = told.notes.with_suffix("")  # beside the notes: whoever ends this process tidies up after it
    scratch.mkdir(exist_ok=True)
    does(Wanted(told.device, told.rehearse, told.images, scratch, Notes(told.notes)), *([name] if name else []))
    return 0


if __name__ == "__main__":
    sys.exit(main())
