"""Kills jobs at random moments and compares what they leave with an uninterrupted run, byte by byte.

`make chaos` runs it at length; `tests/runs/test_resume.py` takes a sample.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from job.report.page_provenance import PLACES
from tests.conftest import start_job, tells
from tests.helpers import s3_fixtures, s3_server

# Long enough for several states in tuning and in training, short enough for a hundred kills.
SMALL = {
    "MODEL": "cnn",
    "DATASET": "synthetic",
    "DATA_LIMIT": "400",
    "TUNE_PERCENT": "50",
    "MAX_EVALS": "4",
    "TUNE_MAX_EPOCHS": "4",
    "PATIENCE": "3",
    "DEVICE": "cpu",
    "LOG_FORMAT": "json",
    "RUN_ID": "run",
}
CLOCK = ("seconds", "trial_seconds")
IN_TIME = 10.0  # seconds from a signal to the end, which docker grants
LOADED = 6.0  # seconds that a machine under load may add, where a store is ill beside it
VARIES = re.compile(r"<(\w+)[^<>]* data-varies>.*?</\1>", re.DOTALL)


def comparable(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What must be equal: every file of a finished run but for the fields that a clock measures, and where it is."""
    content: dict[str, Any] = {}
    for name, raw in files.items():
        if name in ("weights.pt", "model.json") or name.endswith(".png"):
            content[name] = raw
        elif name.endswith(".csv"):
            rows = csv.DictReader(io.StringIO(raw.decode()))
            content[name] = [{k: v for k, v in row.items() if k not in CLOCK} for row in rows]
        elif name == "results.json":
            results = without_clock(json.loads(raw))
            for name_of_place in PLACES:  # where it ran, which must not show
                results["settings"].pop(name_of_place, None)
            results["provenance"].pop("workers", None)
            content[name] = results
        elif name == "report.html":
            content[name] = VARIES.sub("", raw.decode())
        elif name == "results.txt":
            content[name] = [line for line in raw.decode().splitlines() if "duration" not in line]
    return content


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if key not in CLOCK}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def directory_files(run: Path) -> dict[str, bytes]:
    return {file.relative_to(run).as_posix(): file.read_bytes() for file in run.rglob("*") if file.is_file()}


@dataclass
class Attempt:
    """One process of the job: its exit code (negative: the signal that killed it) and the last event before its end."""

    code: int
    last_event: str
    seconds: float
    output: str


def attempt(
    variables: Mapping[str, str], directory: Path, delay: float | None = None, signum: int = signal.SIGKILL
) -> Attempt:
    """Starts the job; `delay` seconds after its work began (its first event after waiting for a dead owner's lock) it
    gets the signal.
    """
    process = start_job(directory, {**SMALL, **variables}, subprocess.STDOUT)
    assert process.stdout is not None
    first = ""
    for line in process.stdout:
        first += line
        if not tells(line, "lock"):
            break
    started = time.monotonic()
    if delay is not None:
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            process.send_signal(signum)
    signalled = time.monotonic()
    output = first + process.stdout.read()
    code = process.wait(60)
    seconds = time.monotonic() - (signalled if signum != signal.SIGKILL else started)
    events = [line for line in output.splitlines() if line.startswith("{")]
    return Attempt(code, json.loads(events[-1])["event"] if events else "", seconds, output)


@dataclass
class Report:
    kills: int = 0
    jobs: int = 0
    equal: int = 0
    different: list[str] = field(default_factory=list)
    killed_after: Counter[str] = field(default_factory=Counter)
    slowest_stop: float = 0.0


def chaos(
    kills: int,
    variables: Mapping[str, str],
    twin: Mapping[str, bytes],
    work_seconds: float,
    read: Callable[[str, Path], Mapping[str, bytes]],
    *,
    output: Callable[[int, Path], str],
    seed: int,
    signum: int = signal.SIGKILL,
    empty_disk: bool = False,
) -> Report:
    """Runs jobs, killing them `kills` times in all, and compares each finished one with its uninterrupted `twin`.

    `output` names the place of the nth job; `read` gets its files. With `empty_disk` every attempt starts in a new
    empty directory, as on a new machine.
    """
    rng, report = random.Random(seed), Report()
    with tempfile.TemporaryDirectory() as scratch:
        while report.kills < kills:
            report.jobs += 1
            home = Path(scratch) / f"job-{report.jobs}"
            home.mkdir()
            place = output(report.jobs, home)
            while True:
                directory = home
                if empty_disk:
                    directory = Path(tempfile.mkdtemp(dir=home))
                # Most moments lie in the work; some beyond it, in report and upload. A job is left alone in the end.
                delay = rng.uniform(0, work_seconds * 0.7) if report.kills < kills else None
                done = attempt({**variables, "OUTPUT": place}, directory, delay, signum)
                if done.code == 0:
                    break
                expected = -signal.SIGKILL if signum == signal.SIGKILL else 128 + signum
                assert done.code == expected, f"exit code {done.code}:\n{done.output}"
                report.kills += 1
                report.killed_after[done.last_event] += 1
                if signum != signal.SIGKILL:
                    report.slowest_stop = max(report.slowest_stop, done.seconds)
            files = read(place, home)
            leftovers = [name for name in files if name.startswith("checkpoint/") or name.endswith(".part")]
            mine, theirs = comparable(files), comparable(twin)
            wrong = [name for name in theirs if mine.get(name) != theirs[name]] + leftovers
            if wrong:
                report.different.append(f"job {report.jobs}: {', '.join(wrong)}")
            else:
                report.equal += 1
    return report


def local_twin(home: Path) -> None:
    """An uninterrupted run as `out/run` in `home`, and in `seconds` how long its work took."""
    done = attempt({"OUTPUT": "out"}, home)
    assert done.code == 0, done.output
    (home / "seconds").write_text(str(done.seconds))


def read_directory(place: str, home: Path) -> dict[str, bytes]:
    return directory_files(home / place / "run")


def bucket_files(client: Any, place: str) -> dict[str, bytes]:
    """The run below `place` (`s3://bucket/prefix`), read with the bucket owner's own client."""
    bucket, _, prefix = place.removeprefix("s3://").partition("/")
    listed = client.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}/run/").get("Contents", [])
    return {
        entry["Key"].removeprefix(f"{prefix}/run/"): client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
        for entry in listed
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="in a directory; a fifth of it on a bucket")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    kills, fewer = arguments.kills, max(5, arguments.kills // 5)
    with tempfile.TemporaryDirectory() as scratch:
        local_twin(Path(scratch))
        twin, work_seconds = directory_files(Path(scratch, "out", "run")), float(Path(scratch, "seconds").read_text())
        server = s3_server.start(Path(scratch))
        client = s3_fixtures.s3_client(server)
        client.create_bucket(Bucket="chaos")
        aws = s3_fixtures.NOTHING_OF_THIS_MACHINE | s3_fixtures.aws_variables(server.endpoint)
        try:
            uploaded = attempt({**aws, "OUTPUT": "s3://chaos/twin"}, Path(tempfile.mkdtemp(dir=scratch)))
            assert uploaded.code == 0, uploaded.output
            for signum, count in ((signal.SIGKILL, kills), (signal.SIGTERM, fewer)):
                told("a directory", signum, chaos(
                    count, {}, twin, work_seconds, read_directory,
                    output=lambda number, home: "out", seed=arguments.seed, signum=signum,
                ))  # fmt: skip
                told("a bucket, each attempt on an empty disk", signum, chaos(
                    fewer, aws, twin, uploaded.seconds, lambda place, home: bucket_files(client, place),
                    output=lambda number, home, signum=signum: f"s3://chaos/{signum}-{number}", seed=arguments.seed,
                    signum=signum, empty_disk=True,
                ))  # fmt: skip
            left = client.list_multipart_uploads(Bucket="chaos").get("Uploads", [])
            assert not left, f"orphaned multipart uploads: {left}"
        finally:
            server.kill()


def told(place: str, signum: int, report: Report) -> None:
    """Prints a report; ends the program where a job differs from its twin or stopped too slowly."""
    name = signal.Signals(signum).name
    print(f"{name}, {place}: {report.kills} times over {report.jobs} jobs, {report.equal} of {report.jobs} byte-equal")
    print(f"  last event before it: {dict(report.killed_after)}; slowest stop {report.slowest_stop:.1f} s", flush=True)
    if report.different:
        sys.exit("\n".join(report.different))
    if report.slowest_stop >= IN_TIME:
        sys.exit(f"a stop took longer than {IN_TIME:g} s")


if __name__ == "__main__":
    main()
