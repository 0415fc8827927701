"""Runs all models at once on a Ray cluster, each with its share of the GPUs; a killed one starts again and resumes.

Called by `deploy.run_all --runner ray`. RAY_ADDRESS names the cluster, `auto` where it is not set.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RETRIES = 5  # of a model whose node dies
SAY_SECONDS = 10.0  # between two looks at all models


def share(gpus: float, models: int) -> float:
    """The part of a GPU that each model gets so that all run at once: 1 at most, rounded down to hundredths."""
    return min(1.0, max(1, int(100 * gpus / models)) / 100) if gpus else 0.0


def run_model(model: str, environment: Mapping[str, str], lines: Any) -> int:
    """On the cluster: the job as a process of its own. Returns its exit code; `lines` takes what it says."""
    import job

    code = str(Path(job.__file__).parent.parent)
    process = subprocess.Popen(
        [sys.executable, "-m", "job"],
        env={**os.environ, **environment, "MODEL": model, "PROGRESS": "line", "RAY_ADDRESS": "", "PYTHONPATH": code},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        for line in process.stdout or ():
            lines.put((model, line.rstrip()))
        return process.wait()
    finally:  # cancelled: the job saves where it stands
        process.terminate()
        process.wait()


def run_all(
    models: Sequence[str], environment: Mapping[str, str], stopped: Callable[[], bool]
) -> list[tuple[str, int, float]]:
    """Model, exit code and seconds of each, in the order in which they ended. Raises SystemExit 78 and 75."""
    ray = connected(environment)
    from ray.util.queue import Queue

    part = share(ray.cluster_resources().get("GPU", 0.0), len(models))
    cpus = ray.cluster_resources().get("CPU", 1.0)
    task = ray.remote(num_gpus=part, num_cpus=min(1.0, cpus / (len(models) + 1)), max_retries=RETRIES)(run_model)
    lines = Queue(actor_options={"num_cpus": 0})
    running = {task.remote(model, dict(environment), lines): model for model in models}
    print(f"== {len(models)} models at once, each on {part:g} of a GPU", flush=True)
    outcomes = list(ended(ray, running, lines, stopped))
    for reference in running:
        ray.cancel(reference)
    if running:
        ray.wait(list(running), num_returns=len(running), timeout=8)
    ray.shutdown()
    return outcomes


def connected(environment: Mapping[str, str]) -> Any:
    """The module `ray`, connected to the cluster, where this project's code is. Raises SystemExit 78 and 75."""
    try:
        import ray
    except ImportError:
        print("error: ray is not installed: make install-ray", file=sys.stderr)
        raise SystemExit(78) from None
    if not environment.get("OUTPUT", "").startswith(("s3://", "/")):
        print("error: OUTPUT is needed: s3://bucket/prefix, or a directory that all nodes share.", file=sys.stderr)
        raise SystemExit(78)
    here = Path(__file__).parent
    modules = [str(here), str(here.parent / "job")]
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS") or "auto", runtime_env={"py_modules": modules})
    except (ConnectionError, RuntimeError, ValueError) as error:
        print(f"error: the Ray cluster cannot be reached: {error}", file=sys.stderr)
        raise SystemExit(75) from error
    return ray


def ended(
    ray: Any, running: dict[Any, str], lines: Any, stopped: Callable[[], bool]
) -> Iterator[tuple[str, int, float]]:
    """Model, exit code and seconds of each task as it ends, until all have or `stopped`; takes it out of `running`.

    Prints the latest line of every model now and then.
    """
    started = time.monotonic()
    latest = dict.fromkeys(running.values(), "waiting")
    said = 0.0
    while running and not stopped():
        done, _ = ray.wait(list(running), num_returns=1, timeout=0.5)
        latest.update(lines.get_nowait_batch(lines.qsize()))
        for reference in done:
            model = running.pop(reference)
            try:
                code = int(ray.get(reference))
            except ray.exceptions.RayError as error:
                latest[model] = str(error).splitlines()[0]
                code = 75
            yield model, code if code >= 0 else 128 - code, time.monotonic() - started
        if time.monotonic() - said >= SAY_SECONDS or done:
            said = time.monotonic()
            for model, line in latest.items():
                print(f"[{model}] {line}", flush=True)
