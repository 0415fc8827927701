"""Whole jobs: run twice, and killed with SIGKILL and resumed. All three must give the same weights and figures."""

from __future__ import annotations

import signal
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from bench.gpu import jobs
from bench.gpu.work import Wanted
from job import device
from job.device.precision import native_precisions

Variables = dict[str, str]


@dataclass(frozen=True)
class Case:
    """A job that is killed in `phase` once a state is durable: after an epoch, since later ones wait for their share of
    the time. It goes on for long enough after that for the kill to come in the middle.
    """

    title: str
    phase: str
    precision: str
    settings: Variables


def training(model: str, images: int, epochs: int) -> Variables:
    return {"MODEL": model, "DATA_LIMIT": str(images), "LEARNING_RATE": "0.001", "EPOCHS": str(epochs)}


def search(model: str, images: int, trials: int, epochs: int) -> Variables:
    shape = {"TUNE_PERCENT": "50", "MAX_EVALS": str(trials), "TUNE_MAX_EPOCHS": str(epochs), "PATIENCE": str(epochs)}
    return {"MODEL": model, "DATA_LIMIT": str(images)} | shape


# About a second of a large card's work each, a dozen times what a state takes to become durable; they share the card.
CASES = (
    Case("cnn, training (dropout, loss scaling)", "train", "fp16", training("cnn", 10_000, 20)),
    Case("vit, training (dropout, attention)", "train", "bf16", training("vit", 10_000, 5)),
    Case("cnn, training (dropout)", "train", "fp32", training("cnn", 10_000, 12)),
    Case("mlp, search (trials as one model where that pays)", "tune", "bf16", search("mlp", 20_000, 8, 30)),
    Case("cnn, search (trials one after the other)", "tune", "bf16", search("cnn", 10_000, 3, 12)),
)
REHEARSED = (Case("mlp, search", "tune", "fp32", search("mlp", 200, 2, 10)),)
AT_ONCE = 8  # jobs side by side: each spends most of its time starting


def prove(wanted: Wanted) -> None:
    native = native_precisions(device.choose(wanted.device, "auto").device)
    with ThreadPoolExecutor(2 if wanted.rehearse else AT_ONCE) as pool:
        begun: list[tuple[Case, Path, list[Future[jobs.Ended]]]] = []
        for number, case in enumerate(REHEARSED if wanted.rehearse else CASES):
            if case.precision not in native:
                wanted.notes.skip(case.title, f"this device does not compute {case.precision} natively")
                continue
            home = wanted.scratch / str(number)
            home.mkdir()
            variables = case.settings | {"PRECISION": case.precision, "DEVICE": wanted.device, "DATASET": "synthetic"}
            ways = [pool.submit(way, home, variables | {"OUTPUT": str(home)}, case.phase) for way in WAYS.values()]
            begun.append((case, home, ways))
        for case, home, ways in begun:
            tell(wanted, case, home, dict(zip(WAYS, (way.result() for way in ways), strict=True)))


def once(home: Path, variables: Variables, phase: str) -> jobs.Ended:
    return jobs.run(home, variables | {"RUN_ID": "once"})


def twice(home: Path, variables: Variables, phase: str) -> jobs.Ended:
    return jobs.run(home, variables | {"RUN_ID": "twice"})


def killed(home: Path, variables: Variables, phase: str) -> jobs.Ended:
    """Killed in `phase` and started again: what the second attempt said, or the first where it ended by itself."""
    variables = variables | {"RUN_ID": "killed"}
    first = jobs.run_until_killed(home, variables, home / "killed" / "status.json", phase)
    if first.code != -signal.SIGKILL:
        return replace(first, code=first.code or 1, output=f"{first.output}\nended before it could be killed")
    return jobs.run(home, variables)


WAYS = {"once": once, "twice": twice, "killed": killed}


def tell(wanted: Wanted, case: Case, home: Path, ended: dict[str, jobs.Ended]) -> None:
    row = {"case": case.title, "precision": case.precision}
    failed = {f"{name} failed": f"exit code {job.code}: {job.last}" for name, job in ended.items() if job.code}
    if failed:
        wanted.notes.add("whole jobs", row | failed, False)
        return
    resumed = ended["killed"].says("resume")
    row["resumed after"] = (
        f"{resumed[0]['trials_finished']} trials, {resumed[0]['epochs_of_part']} epochs" if resumed else "nothing"
    )
    results = jobs.results(home / "once")
    row["steps"] = results["provenance"]["arithmetic"]["step"]
    row["trials"] = results["provenance"].get("workers", {}).get("kind", "")
    again, gone_on = (jobs.differences(home / "once", home / name) for name in ("twice", "killed"))
    row["run twice"], row["killed and resumed"] = told(again), told(gone_on)
    row["seconds of each"] = ", ".join(f"{job.seconds:.1f}" for job in ended.values())
    wanted.notes.add("whole jobs", row, bool(resumed) and not again and not gone_on)


def told(differences: list[str]) -> str:
    return "equal" if not differences else f"{len(differences)} differ, first {differences[0]}"
