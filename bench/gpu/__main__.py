"""`make test-gpu`: does this card compute right, and how fast? One folder of results, written step by step.

Steps come in the order of what is most worth knowing, each as a process of its own with a time limit. What no longer
fits into the budget is skipped, and said. Exit code 0: nothing failed; 1: something did; 78: it could not begin.
Needs no network and no compiler. `--device cpu --rehearse` runs the same script with the smallest sizes on a CPU.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from bench.gpu import page, pictures
from bench.gpu.plan import planned
from bench.gpu.steps import Budget, Outcome, run_all

USAGE = 78
BUDGET, REHEARSAL_BUDGET = 480.0, 2400.0  # seconds; a rehearsal takes two minutes where nobody else is at work


def main() -> int:
    told = arguments()
    if (told.device == "cpu") != told.rehearse:
        return refuse("a CPU needs no proof: --device cpu and --rehearse belong together")
    if told.images is not None and not (told.images / "train").is_dir():
        return refuse(f"--images {told.images}: there must be train/<class>/ and test/<class>/ in it")
    options = ["--device", told.device, *(["--rehearse"] if told.rehearse else [])]
    options += ["--images", str(told.images.resolve())] if told.images else []
    try:
        steps = planned(told.steps, tuple(options), rehearse=told.rehearse)
    except ValueError as error:
        return refuse(str(error))
    told.output.mkdir(parents=True, exist_ok=True)
    folder = told.output.resolve()
    for old in (page.PAGE, page.JSON, page.LOG, *pictures.NAMES):
        (folder / old).unlink(missing_ok=True)
    about = page.About(told.device, told.budget, str(told.images or "drawn"), told.rehearse, page.now())
    budget = Budget(told.budget)

    def after(outcomes: list[Outcome]) -> None:
        waiting = [step.name for step in steps[len(outcomes) :]]
        page.write(folder, about, outcomes, waiting, told.budget - budget.left)

    if told.rehearse:  # threads that wait for each other are all that a busy machine would show
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # with the step that is at work
    with tempfile.TemporaryDirectory() as scratch:
        outcomes = run_all(steps, budget, Path(scratch), folder / page.LOG, after)
    drawn = pictures.draw(page.tables(outcomes), f"{page.card(outcomes) or told.device}, {about.started}", folder)
    print(f"{page.verdict(outcomes)}\nwritten: {folder}: {', '.join([page.PAGE, page.JSON, page.LOG, *drawn])}")
    return int(any(outcome.outcome in ("failed", "cut off") for outcome in outcomes))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", nargs="*", help="names of steps; all without it")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, or cpu with --rehearse")
    parser.add_argument("--rehearse", action="store_true", help="the smallest sizes, on a CPU")
    parser.add_argument(
        "--images", type=Path, help="a folder with train/<class>/* and test/<class>/*; drawn without it"
    )
    parser.add_argument("--output", type=Path, default=Path("outputs/gpu"))
    budget = float(os.environ["BUDGET_S"]) if os.environ.get("BUDGET_S") else None
    parser.add_argument("--budget", type=float, default=budget, help="seconds for all steps; BUDGET_S, 480 without it")
    told = parser.parse_args()
    told.budget = told.budget or (REHEARSAL_BUDGET if told.rehearse else BUDGET)
    return told


def refuse(why: str) -> int:
    print(why, file=sys.stderr)
    return USAGE


if __name__ == "__main__":
    sys.exit(main())
