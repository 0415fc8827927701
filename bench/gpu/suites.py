"""What the project has anyway, run here: the engine's tests, `bench.trials`, `make bench`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from statistics import median

from bench.gpu.steps import ROOT
from bench.gpu.work import Wanted

TESTS = ("test_graphs.py", "test_stacked.py")
VERDICT = re.compile(r"(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)")
NEEDS = ("pytest", "boto3")


def engine_tests(wanted: Wanted) -> None:
    """pytest on the engine's test files; what fails is noted at once."""
    missing = [name for name in NEEDS if find_spec(name) is None]
    if missing:
        wanted.notes.skip("the engine's tests", f"not installed: {', '.join(missing)}")
        return
    files = [str(file.relative_to(ROOT)) for name in TESTS for file in sorted((ROOT / "tests").rglob(name))]
    if len(files) < len(TESTS):
        wanted.notes.add("tests", {"files": f"of {', '.join(TESTS)} only {', '.join(files) or 'none'} is there"}, False)
    side_by_side = ["-n", str(min(8, max(2, (os.cpu_count() or 2) // 2)))] if find_spec("xdist") else []
    if wanted.rehearse:
        files, side_by_side = files[:1], ["-k", "noticed or on_a_gpu"]
    counts: dict[str, int] = {}

    def tell(passed: bool | None) -> None:
        row = {"files": ", ".join(files)} | {name.lower(): str(count) for name, count in sorted(counts.items())}
        wanted.notes.add("tests", row, passed, key="counts")

    command = [sys.executable, "-u", "-m", "pytest", "-v", "-rfEs", "-p", "no:cacheprovider", *side_by_side, *files]
    with subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        summary = False
        for line in process.stdout:
            print(line, end="", flush=True)
            summary = summary or "short test summary" in line
            found = VERDICT.search(line)
            if found is None or summary or "::" not in line:
                continue
            counts[found[1]] = counts.get(found[1], 0) + 1
            if found[1] in ("FAILED", "ERROR"):
                wanted.notes.add("tests that failed", {"test": line.strip()[:200]}, False)
            tell(None)
    tell(process.returncode == 0)


def trials(wanted: Wanted) -> None:
    """`bench.trials`, a model at a time."""
    for name in ("mlp",) if wanted.rehearse else ("mlp", "cnn", "vit"):
        file = wanted.scratch / f"{name}.json"
        small = ["--trials", "2", "--images", "64"] if wanted.rehearse else []
        where = ["--device", wanted.device, "--rounds", "1", "--json", str(file)]
        done = subprocess.run([sys.executable, "-u", "-m", "bench.trials", "--models", name, *where, *small], cwd=ROOT)
        if done.returncode:
            wanted.notes.add("trials", {"model": name, "ended with": f"exit code {done.returncode}"}, False)
            continue
        (ways,) = json.loads(file.read_text())["seconds"].values()
        alone = median(ways["one after the other"])
        for way, seconds in ways.items():
            told = {"model": name, "way": way, "seconds": round(median(seconds), 2)}
            if way != "workers' start":
                told["times as fast"] = round(alone / median(seconds), 2)
            wanted.notes.add("trials", told)


def bench(wanted: Wanted) -> None:
    """`make bench`'s contenders on one model; Lightning where it is installed."""
    if wanted.rehearse:
        wanted.notes.skip("make bench", "it takes minutes on a CPU")
        return
    if find_spec("lightning") is None:
        wanted.notes.skip("Lightning", "it is not installed")
    output = wanted.scratch / "bench"
    options = ["--device", wanted.device, "--seconds", "5", "--output", str(output)]
    done = subprocess.run([sys.executable, "-u", "-m", "bench", "cnn", *options], cwd=ROOT)
    if done.returncode:
        wanted.notes.add("make bench", {"ended with": f"exit code {done.returncode}"}, False)
        return
    found = json.loads((output / "bench.json").read_text())
    for name, result in found["models"].items():
        for title, seconds in result["median_seconds"].items():
            memory = round(result["peak_memory_gib"][title], 2)
            over = round(result["over_job"][title], 2)
            row = {"model": name, "contender": title, "s an epoch": round(seconds, 3), "times the job's": over}
            wanted.notes.add("make bench", row | {"memory, GiB": memory})
    wanted.notes.add("make bench", {"contender": "start to first step", "s an epoch": found["seconds_to_first_step"]})
