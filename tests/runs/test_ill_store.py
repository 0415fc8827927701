"""A store that is ill for a while, under whole jobs: it costs a run nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any

import pytest

from tests.conftest import ROOT, bare_environment
from tests.helpers import chaos, fault_proxy
from tests.helpers.fault_proxy import Proxy, Rule
from tests.helpers.s3_fixtures import NOTHING_OF_THIS_MACHINE, aws_variables
from tests.helpers.s3_server import Server

ILL = {
    "refuses": [Rule("answer", "*")],
    "hangs": [Rule("hang", "*")],
    "cuts its answers": [Rule("half", "GET"), Rule("lost", "*")],  # what changes something has changed it
}
PARTS = ("search", "training", "publish")
AFTERWARDS = 45.0  # seconds that a search or training goes on when the store is well again: reads time out after 15
PATIENT = 600.0  # seconds for all jobs of a test, beyond those of the illness, on a machine under load


@dataclass
class Patient:
    """A job behind a proxy of its own, whose store falls ill in `part`."""

    part: str
    kind: str
    place: str
    proxy: Proxy
    process: subprocess.Popen[bytes]
    output: IO[str]
    ill_from: float = 0.0
    well_from: float = 0.0
    kept_after: float = 0.0  # seconds until a state was durable after the illness
    seen: int = field(default=0, repr=False)

    def said(self) -> list[dict[str, Any]]:
        self.output.seek(0)
        return [json.loads(line) for line in self.output.read().splitlines() if line.startswith("{")]

    def is_there(self) -> bool:
        """Whether its part has been reached, and a request of it has been sent."""
        if self.part == "search":
            return any(is_state(line) for line in self.proxy.requests)
        if self.part == "training":
            return any(event["event"] == "epoch" and event["phase"] == "train" for event in self.said())
        return any(line.startswith("PUT") and "/results" in line for line in self.proxy.requests)

    def look(self, seconds: float) -> None:
        """Lets its store fall ill, and get well `seconds` later; notes when a state is kept then."""
        now = time.monotonic()
        if not self.ill_from:
            if self.is_there():
                self.ill_from, self.proxy.rules = now, list(ILL[self.kind])
        elif not self.well_from:
            if now - self.ill_from >= seconds:
                self.well_from, self.proxy.rules, self.seen = now, [], len(self.proxy.requests)
        elif not self.kept_after and any(is_state(line) for line in self.proxy.requests[self.seen :]):
            self.kept_after = now - self.well_from


def is_state(request: str) -> bool:
    return request.startswith("PUT") and "checkpoint/" in request


@pytest.fixture
def patients(swift: Server, bucket: str, seconds: float) -> Iterator[list[Patient]]:
    with ExitStack() as stack:
        found = []
        for part in PARTS:
            for kind in ILL:
                proxy = stack.enter_context(fault_proxy.proxy(swift))
                place = f"s3://{bucket}/{part}-{kind.split()[0]}"
                output = stack.enter_context(tempfile.TemporaryFile("w+"))
                environment = bare_environment() | NOTHING_OF_THIS_MACHINE | aws_variables(proxy.endpoint)
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.helpers.unhurried", part, str(seconds + AFTERWARDS)],
                    cwd=stack.enter_context(tempfile.TemporaryDirectory()),
                    env=environment | chaos.SMALL | {"OUTPUT": place, "PYTHONPATH": str(ROOT)},
                    stdout=output,
                    stderr=subprocess.STDOUT,
                )  # fmt: skip
                stack.callback(process.wait)
                stack.callback(process.kill)
                found.append(Patient(part, kind, place, proxy, process, output))
        yield found


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seconds", [5.0, 40.0, 120.0])
def test_a_store_that_is_ill_costs_the_run_nothing(
    twin: tuple[dict[str, bytes], float], owner: Any, patients: list[Patient], seconds: float
) -> None:
    """Refusing, hanging and cutting its answers, in search, training and publishing: all at once, as they only wait."""
    end = time.monotonic() + seconds + AFTERWARDS + PATIENT
    while any(patient.process.poll() is None for patient in patients) and time.monotonic() < end:
        for patient in patients:
            patient.look(seconds)
        time.sleep(0.1)
    expected = chaos.comparable(twin[0])
    for patient in patients:
        told = patient.said()
        refused = sum(event["event"] == "checkpoint" for event in told)
        repeated = sum(event["event"] == "retry" for event in told)
        print(
            f"| {patient.part} | {patient.kind} | {seconds:.0f} s | {patient.process.returncode} | "
            f"{refused} states refused, {repeated} repeats, the next state {patient.kept_after:.0f} s after |"
        )
    for patient in patients:
        said = "\n".join(str(event) for event in patient.said()[-5:])
        assert patient.process.returncode == 0, f"{patient.part}, {patient.kind}: {said}"
        assert patient.well_from, f"{patient.part}, {patient.kind}: it was over before the store was well again"
        files = chaos.bucket_files(owner, patient.place)
        mine = chaos.comparable(files)
        assert [name for name in expected if mine.get(name) != expected[name]] == []
        left = {"lock.json", "checkpoint/0", "checkpoint/1"} & set(files)
        assert not left, f"{patient.part}, {patient.kind}: {left}"
        if patient.part != "publish":
            assert patient.kept_after, f"{patient.part}, {patient.kind}: no state was kept after the illness"
