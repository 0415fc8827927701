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

    def command(self, model: str, gpu: str | None, quiet: bool) -> tuple[list[str], dict[str, str]]:
        """What to start, and with which environment; `quiet` keeps bars out of a log that several runs share."""
        environment = {**os.environ, "MODEL": model, **({"PROGRESS": "line"} if quiet else {})}
        if self.kind == "native":
            if gpu is not None:
                environment["CUDA_VISIBLE_DEVICES"] = gpu
            return [sys.executable, "-m", "job"], environment
        settings = variables.given(environment)
        terminal = not quiet and sys.stdin.isatty() and sys.stdout.isatty()
        line, inside = container.command(self.engine, self.image, gpu or "auto", settings, (), terminal)
        return line, environment | {name: inside[name] for name in inside if inside[name] != os.environ.get(name)}

    def run(self, model: str, gpu: str | None, beside_others: bool) -> Outcome:
        line, environment = self.command(model, gpu, beside_others)
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


def run_all(runner: Runner, models: Sequence[str], gpus: Sequence[str]) -> list[Outcome]:
    """The outcomes in the order in which the runs ended."""
    waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
    for model in models:
        waiting.put(model)
    outcomes: list[Outcome] = []
    side_by_side = len(gpus) > 1

    def work(gpu: str | None) -> None:
        while not runner.stopped_by:
            try:
                model = waiting.get_nowait()
            except queue.Empty:
                return
            print(f"== {model}" + (f" on GPU {gpu}" if gpu else ""), flush=True)
            outcomes.append(runner.run(model, gpu, side_by_side))

    workers = [threading.Thread(target=work, args=(gpu,)) for gpu in (gpus if side_by_side else [None])]
    for worker in workers:
        worker.start()
    for worker in workers:
        while worker.is_alive():
            worker.join(timeout=0.2)  # a signal's handler runs only between two waits
    return outcomes


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
        outcomes = run_all(runner, models, container.gpus_here() if may_use_gpus(os.environ) else [])
    print("== all models")
    for outcome in outcomes:
        print(f"  {outcome}")
    missing = [model for model in models if model not in {outcome.model for outcome in outcomes}]
    for model in missing:
        print(f"  {model:20} not started")
    if not runner.stopped_by and any(outcome.code == 0 for outcome in outcomes):
        runner.summarize()
    if runner.stopped_by:
        sys.exit(128 + runner.stopped_by)
    sys.exit(any(outcome.code for outcome in outcomes) or bool(missing))


if __name__ == "__main__":
    main()
