"""Whole jobs: run twice, and killed with SIGKILL and resumed. All three must give the same weights and figures."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from bench.gpu import jobs
from bench.gpu.work import Wanted
from job import device

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


CASES = (
    Case("cnn, training (dropout, loss scaling)", "train", "fp16", training("cnn", 10_000, 150)),
    Case("vit, training (dropout, attention)", "train", "bf16", training("vit", 10_000, 15)),
    Case("cnn, training (dropout)", "train", "fp32", training("cnn", 10_000, 100)),
    Case("mlp, search (trials as one model where that pays)", "tune", "bf16", search("mlp", 20_000, 8, 200)),
    Case("cnn, search (trials one after the other)", "tune", "bf16", search("cnn", 10_000, 4, 60)),
)
REHEARSED = (
    Case("cnn, training (dropout)", "train", "fp32", training("cnn", 100, 8)),
    Case("mlp, search", "tune", "fp32", search("mlp", 200, 2, 10)),
)
AT_ONCE = 8  # jobs side by side: each spends most of its time starting


def prove(wanted: Wanted) -> None:
    cases = REHEARSED if wanted.rehearse else CASES
    native = device.native_precisions(device.choose(wanted.device, "auto").device)
    with ThreadPoolExecutor(2 if wanted.rehearse else AT_ONCE) as pool:
        begun: list[tuple[Case, list[Future[jobs.Ended]], Path]] = []
        for number, case in enumerate(cases):
            if case.precision not in native:
                wanted.notes.skip(case.title, f"this device does not compute {case.precision} natively")
                continue
            home = wanted.scratch / str(number)
            begun.append((case, [pool.submit(way, home, wanted.device, case) for way in (once, twice, killed)], home))
        for case, ways, home in begun:
            tell(wanted, case, [way.result() for way in ways], home)


def settings(device_name: str, case: Case, home: Path, name: str) -> Variables:
    home.mkdir(parents=True, exist_ok=True)
    where = {"DEVICE": device_name, "OUTPUT": str(home), "RUN_ID": name, "DATASET": "synthetic"}
    return case.settings | {"PRECISION": case.precision} | where


def once(home: Path, device_name: str, case: Case) -> jobs.Ended:
    return jobs.run(wait_for(home), settings(device_name, case, home, "once"))


def twice(home: Path, device_name: str, case: Case) -> jobs.Ended:
    return jobs.run(wait_for(home), settings(device_name, case, home, "twice"))


def wait_for(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home


def killed(home: Path, device_name: str, case: Case) -> jobs.Ended:
    """Killed, then started again: what the second attempt said. Raises where it was not killed in time."""
    variables = settings(device_name, case, home, "killed")
    first = jobs.run_until_killed(wait_for(home), variables, home / "killed" / "status.json", case.phase)
    if first.code != -9:
        return jobs.Ended(first.code or 1, f"{first.output}\nended with {first.code} before it could be killed", 0.0)
    return jobs.run(home, variables)


def tell(wanted: Wanted, case: Case, ended: list[jobs.Ended], home: Path) -> None:
    row = {"case": case.title, "precision": case.precision}
    failed = [(name, job) for name, job in zip(("once", "twice", "killed"), ended, strict=True) if job.code]
    if failed:
        row |= {f"{name} failed": f"exit code {job.code}: {job.last}" for name, job in failed}
        wanted.notes.add("whole jobs", row, False)
        return
    resumed = ended[2].says("resume")
    row["resumed after"] = (
        f"{resumed[0]['trials_finished']} trials, {resumed[0]['epochs_of_part']} epochs" if resumed else "nothing"
    )
    results = jobs.results(home / "once")
    row["steps"] = results["provenance"]["arithmetic"]["step"]
    row["trials"] = results["provenance"].get("workers", {}).get("kind", "")
    again, gone_on = (jobs.differences(home / "once", home / name) for name in ("twice", "killed"))
    row["run twice"], row["killed and resumed"] = told(again), told(gone_on)
    row["seconds of each"] = ", ".join(f"{job.seconds:.1f}" for job in ended)
    wanted.notes.add("whole jobs", row, bool(resumed) and not again and not gone_on)


def told(differences: list[str]) -> str:
    return "equal" if not differences else f"{len(differences)} differ, first {differences[0]}"
