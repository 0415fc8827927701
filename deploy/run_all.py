"""Runs every model: one after the other, one per GPU where there are several, or all at once on a Ray cluster.

Goes on past one that fails.

python -m deploy.run_all [--runner native|docker|ray] [--engine docker|podman] [--image IMAGE] MODEL...
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType

from deploy import container, run_ray, variables
from deploy.shares import Shares, limit, place, predicted

NOTHING: Mapping[str, str] = {}
LOOK = {"MODE": "check", "LOG_FORMAT": "json", "MAX_HOURS": ""}


@dataclass(frozen=True)
class Outcome:
    model: str
    code: int
    seconds: float

    def __str__(self) -> str:
        words = {0: "finished", 75: "failed, a retry may mend it", 130: "stopped", 143: "stopped"}
        how = words.get(self.code, "failed, see above")
        return f"{self.model:20} {how} (exit {self.code}) after {self.seconds:.0f} s"


class Runner:
    """Starts one model's run after the other. `stop` ends those under way and starts no further ones."""

    def __init__(self, kind: str, engine: str, image: str) -> None:
        self.kind, self.engine, self.image = kind, engine, image
        self.running: list[subprocess.Popen[str]] = []
        self.stopped_by = 0

    def command(
        self, model: str, gpu: str | None, quiet: bool, others: Mapping[str, str] = NOTHING
    ) -> tuple[list[str], dict[str, str]]:
        """What to start, and with which environment; `quiet` keeps bars out of a log that several runs share."""
        environment = {**os.environ, "MODEL": model, **({"PROGRESS": "line"} if quiet else {}), **others}
        if self.kind == "native":
            if gpu is not None:
                environment["CUDA_VISIBLE_DEVICES"] = gpu
            return [sys.executable, "-m", "job"], environment
        settings = variables.given(environment)
        terminal = not quiet and sys.stdin.isatty() and sys.stdout.isatty()
        line, inside = container.command(self.engine, self.image, gpu or "auto", settings, (), terminal)
        return line, environment | {name: inside[name] for name in inside if inside[name] != os.environ.get(name)}

    def predict(self, models: Sequence[str], shares: Shares) -> None:
        """Asks MODE=check what each model would take."""
        for model in models:
            if not shares.known(model) and not self.stopped_by:
                shares.cost(model, predicted(*self.command(model, None, True, LOOK)))

    def run(self, model: str, gpu: str | None, beside_others: bool, hours: str = "") -> Outcome:
        line, environment = self.command(model, gpu, beside_others, {"MAX_HOURS": hours} if hours else NOTHING)
        started = time.monotonic()
        pipe, with_it = (subprocess.PIPE, subprocess.STDOUT) if beside_others else (None, None)
        try:
            process = subprocess.Popen(line, env=environment, text=True, stdout=pipe, stderr=with_it)
        except FileNotFoundError:
            print(f"error: {line[0]} is not installed.", flush=True)
            return Outcome(model, 127, 0)
        self.running.append(process)
        if self.stopped_by == signal.SIGTERM:  # the signal came just before
            process.terminate()
        for text in process.stdout or ():
            print(f"[{model}] {text}", end="", flush=True)
        code = process.wait()
        self.running.remove(process)
        return Outcome(model, code if code >= 0 else 128 - code, time.monotonic() - started)

    def summarize(self) -> None:
        """Puts all finished runs side by side. The exit status is the runs' own: a failure here is only printed."""
        environment = {**os.environ, "MODE": "summary"}
        line = [sys.executable, "-m", "job"]
        if self.kind == "docker":
            line, inside = container.command(self.engine, self.image, "none", variables.given(environment))
            environment = inside | {"MODE": "summary"}
        code = subprocess.run(line, env=environment).returncode
        if code:
            print(f"  the summary failed (exit {code})", flush=True)

    def stop(self, signum: int, frame: FrameType | None = None) -> None:
        self.stopped_by = signum
        if signum == signal.SIGTERM:  # Ctrl-C reaches the runs by itself, and a second signal would end them at once
            for process in list(self.running):
                process.terminate()


def run_all(runner: Runner, models: Sequence[str], gpus: Sequence[str], shares: Shares | None = None) -> list[Outcome]:
    """The outcomes in the order in which the runs ended. `shares` is the time that they have together, if it ends."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for model in models:
        waiting.put(model)
    outcomes: list[Outcome] = []
    begun: list[str] = []
    side_by_side = len(gpus) > 1

    def work(gpu: str | None) -> None:
        while not runner.stopped_by:
            try:
                model = waiting.get_nowait()
            except queue.Empty:
                return
            begun.append(model)
            hours = shares.of(model, [name for name in models if name not in begun]) if shares else ""
            within = f" within {hours} hours" if hours else ""
            print(f"== {model}" + (f" on GPU {gpu}" if gpu else "") + within, flush=True)
            outcomes.append(runner.run(model, gpu, side_by_side, hours))

    workers = [threading.Thread(target=work, args=(gpu,)) for gpu in (gpus if side_by_side else [None])]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(timeout=0.2)  # a signal's handler runs only between two waits
            if shares:
                shares.tick()
    return outcomes


def shared(runner: Runner, models: Sequence[str], gpus: int) -> Shares | None:
    """The time that all models have together; None without MAX_HOURS. (On Ray all run at once, each for all of it.)"""
    hours = limit()
    if hours is None:
        return None
    fresh = os.environ.get("FRESH", "") not in ("", "0")
    shares = Shares(place(os.environ.get("OUTPUT", "")), hours, max(1, gpus), fresh=fresh)
    print(f"== {hours:g} hours for {len(models)} models, shared by what each is predicted to take", flush=True)
    runner.predict(models, shares)
    return shares


def may_use_gpus(environment: Mapping[str, str]) -> bool:
    """Whether DEVICE leaves the choice of the GPU open."""
    return environment.get("DEVICE", "") in ("", "auto", "cuda")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runner", default="native", choices=["native", "docker", "ray"])
    parser.add_argument("--engine", default="docker", choices=["docker", "podman"])
    parser.add_argument("--image", default="image-classification-job")
    parser.add_argument("models", nargs="+")
    wanted = parser.parse_args()
    models = [variables.check_model(name) for part in wanted.models for name in part.replace(",", " ").split()]
    runner = Runner(wanted.runner, wanted.engine, wanted.image)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, runner.stop)
    if wanted.runner == "ray":
        given = {**variables.given(), **{name: os.environ[name] for name in os.environ if name.startswith("AWS_")}}
        found = run_ray.run_all(models, given, lambda: bool(runner.stopped_by))
        outcomes = [Outcome(*outcome) for outcome in found]
    else:
        gpus = container.gpus_here() if may_use_gpus(os.environ) else []
        outcomes = run_all(runner, models, gpus, shared(runner, models, len(gpus)))
    print("== all models")
    for outcome in outcomes:
        print(f"  {outcome}")
    missing = [model for model in models if model not in {outcome.model for outcome in outcomes}]
    for model in missing:
        print(f"  {model:20} not started")
    if not runner.stopped_by and (limit() or any(outcome.code == 0 for outcome in outcomes)):
        runner.summarize()
    if runner.stopped_by:
        sys.exit(128 + runner.stopped_by)
    sys.exit(any(outcome.code for outcome in outcomes) or bool(missing))


if __name__ == "__main__":
    main()
