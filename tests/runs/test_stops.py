"""SIGTERM to exit, of the real job: each of its parts by each state of the store."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from job.runs import taking
from job.runs.owner import Owner, content
from tests.conftest import ROOT, TINY, bare_environment
from tests.helpers import chaos, fault_proxy, stopped_at
from tests.helpers.fault_proxy import Proxy, Rule
from tests.helpers.folders import pictures
from tests.helpers.mirror import mirror
from tests.helpers.s3_fixtures import NOTHING_OF_THIS_MACHINE, aws_variables
from tests.helpers.s3_server import Server

STATES = {
    "well": [],
    "slow": [Rule("late", "*", delay=3.0)],
    "hanging": [Rule("hang", "*")],
    "refusing": [Rule("answer", "*")],
}
ENDLESS = "100000"
GIVEN = {"LEARNING_RATE": "0.001", "EPOCHS": "2"}  # as `one_run` was made
WANTED = {
    "data": GIVEN,
    "download": GIVEN | {"DATASET": "cifar10"},
    "decoding": GIVEN | {"DATASET": "folder", "DATA_DIR": "images"},
    "search": {"TUNE_MAX_EPOCHS": ENDLESS, "PATIENCE": ENDLESS},
    "training": GIVEN | {"EPOCHS": ENDLESS},
    "report": GIVEN,
    "upload": GIVEN,
    "waiting for the lock": GIVEN,
    "predict": {"MODE": "predict", "INPUT": "images"},
    "export": {"MODE": "export"},
    "verify": {"MODE": "verify"},
}
FINISHED = ("predict", "export", "verify")  # what is done with a finished run
PATIENT = 300.0


@pytest.fixture
def place(part: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The variables of a job that comes to this part, and the working directory `tmp_path` with all that it needs."""
    folders = [f"{half}/{name}" for half in ("train", "test") for name in ("cats", "dogs")]
    pictures(tmp_path / "images", *(f"{folder}/{number}.png" for folder in folders for number in range(40)))
    with mirror(bytes(1000)) as (address, _):
        variables = TINY | WANTED[part] | {"LOG_FORMAT": "json"}
        yield variables | ({"DATA_URL": f"{address}/silent", "DATA_DIR": "data"} if part == "download" else {})


def prepare(part: str, state: str, owner: Any, bucket: str, one_run: Path) -> None:
    """What lies in the store before: a finished run, or the lock of another job that lives."""
    if part in FINISHED:
        for file in one_run.iterdir():
            owner.put_object(Bucket=bucket, Key=f"{state}/run/{file.name}", Body=file.read_bytes())
    if part == "waiting for the lock":
        other = content(Owner("someone", "elsewhere", "another machine", 1, "1", patience=500.0))
        owner.put_object(Bucket=bucket, Key=f"{state}/run/{taking.NAME}", Body=other)


def begin(part: str, variables: dict[str, str], proxy: Proxy, directory: Path) -> subprocess.Popen[str]:
    environment = bare_environment() | NOTHING_OF_THIS_MACHINE | aws_variables(proxy.endpoint) | variables
    return subprocess.Popen(
        [sys.executable, "-m", "tests.helpers.stopped_at", part],
        cwd=directory, env=environment | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def read_until_reached(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.strip() == stopped_at.REACHED:
            return said
    raise AssertionError(f"it ended before:\n{said}")


def test_every_part_has_its_function() -> None:
    """The test below takes minutes; that a function moved away is seen at once."""
    assert stopped_at.PARTS.keys() == WANTED.keys()
    for target, _ in stopped_at.PARTS.values():
        stopped_at.found(target)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", WANTED)
def test_a_stop_ends_every_part_in_time(
    part: str, place: dict[str, str], swift: Server, owner: Any, bucket: str, one_run: Path, tmp_path: Path
) -> None:
    """The store falls ill when the part is reached; the four jobs stop side by side, as they mostly wait."""

    def stopped(state: str) -> tuple[float, int, str]:
        prepare(part, state, owner, bucket, one_run)
        with fault_proxy.proxy(swift) as proxy:
            variables = place | {"OUTPUT": f"s3://{bucket}/{state}", "RUN_ID": "run"}
            with begin(part, variables, proxy, tmp_path) as process:
                try:
                    said = read_until_reached(process)
                    proxy.rules = list(STATES[state])
                    time.sleep(0.5)
                    started = time.monotonic()
                    process.send_signal(signal.SIGTERM)
                    rest, _ = process.communicate(timeout=PATIENT)
                    return time.monotonic() - started, process.returncode, said + rest
                finally:
                    process.kill()

    with ThreadPoolExecutor(len(STATES)) as pool:
        ended = dict(zip(STATES, pool.map(stopped, STATES), strict=True))
    for state, (seconds, code, _) in ended.items():
        print(f"| {part} | {state} | {seconds:.1f} s | {code} |")
    for state, (seconds, code, said) in ended.items():
        assert code == 143, f"{part}, store {state}: {said}"
        assert seconds < chaos.IN_TIME + chaos.LOADED, f"{part}, store {state}: {said}"
        assert "Traceback" not in said, said
        told = json.loads([line for line in said.splitlines() if line.startswith("{")][-1])
        assert told["exit_code"] == 143
