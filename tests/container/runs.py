"""Runs from nothing, finished ones, stopped ones that go on, and wrong settings."""

from __future__ import annotations

import json
import os
import re
import time

from tests.container.place import SMALL, STRICT, TINY, Place, comparable, comparable_rows, outputs_are_whole
from tests.container.shell import IMAGE, sh

STOP_SECONDS = 10.0


def whole_run(place: Place) -> str:
    log = place.run(SMALL)
    assert log.startswith("platform: none, OUTPUT=/outputs; threads: "), log[:200]
    said = outputs_are_whole(place.finished_run())
    owners = {file.stat().st_uid for file in place.finished_run().iterdir()}
    assert owners == {12345} or os.getuid() != 0, owners
    return said


def finished_already(place: Place) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in place.finished_run().iterdir()}
    log = place.run(SMALL)
    assert "finished already" in log, log
    after = {file.name: file.stat().st_mtime_ns for file in place.finished_run().iterdir()}
    assert before == after, "files were written again"


def exported(place: Place) -> str:
    """The run's model for other programs, made and verified in the image."""
    place.run({**SMALL, "MODE": "export", "EXPORT_FORMAT": "onnx,onnx-int8,pt2,safetensors"})
    place.run({**SMALL, "MODE": "verify"})
    return outputs_are_whole(place.finished_run(), {"model.onnx", "model.int8.onnx", "model.pt2", "model.safetensors"})


def followed(place: Place) -> str:
    """A run that TensorBoard and MLflow follow, both into mounted folders."""
    log = place.run({**TINY, "TENSORBOARD_DIR": "/outputs/tb", "MLFLOW_TRACKING_URI": "file:///outputs/mlflow"})
    assert "gets nothing more of this run" not in log, log
    events = list(place.outputs.glob("tb/*/train/events.out.tfevents.*"))
    assert events, "TensorBoard got nothing"
    measured = list(place.outputs.glob("mlflow/*/*/metrics/test_accuracy"))
    kept = list(place.outputs.glob("mlflow/*/*/artifacts/report.html"))
    assert len(measured) == len(kept) == 1, [measured, kept]
    return f"{len(events)} event file, {measured[0].read_text().split()[1]} % in MLflow"


def stop_when(place: Place, line: str) -> str:
    """Starts the run, stops it once its log has `line`, and says how long the stop took."""
    name = "job-check-stop"
    sh("podman", "rm", "-f", name, check=False)
    sh("podman", "run", "-d", "--name", name, *STRICT, *place.options(SMALL), IMAGE)
    try:
        deadline = time.monotonic() + 120
        while re.search(line, log := sh("podman", "logs", name).stdout) is None:
            running = sh("podman", "inspect", "--format", "{{.State.Running}}", name).stdout.strip()
            assert running == "true", f"ended before {line!r}:\n{log}"
            assert time.monotonic() < deadline, f"no {line!r} within 120 s:\n{log}"
            time.sleep(0.1)
        assert sh("podman", "exec", name, "cat", "/proc/1/comm").stdout.strip() == "tini", "PID 1 is not tini"
        started = time.monotonic()
        sh("podman", "stop", "--time", "30", name)
        took = time.monotonic() - started
        code = sh("podman", "inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        log = sh("podman", "logs", name).stdout
    finally:
        sh("podman", "rm", "-f", name, check=False)
    assert code == "143", f"exit {code} instead of 143:\n{log}"
    assert took < STOP_SECONDS, f"the stop took {took:.1f} s"
    assert not list(place.outputs.glob("*/manifest.json")), "a stopped run has a manifest"
    return f"exit 143 after {took:.2f} s"


def stopped_run_goes_on(place: Place, whole: Place) -> str:
    log = place.run(SMALL)
    one, other = place.finished_run(), whole.finished_run()
    outputs_are_whole(one)
    assert one.name == other.name
    assert (one / "weights.pt").read_bytes() == (other / "weights.pt").read_bytes(), "weights.pt differs"
    left, right = (comparable(json.loads((run / "results.json").read_text())) for run in (one, other))
    different = [f"{key}: {left[key]} / {right.get(key)}" for key in left if left[key] != right.get(key)]
    assert left == right, f"results.json differs in {different}"
    for name in ("history.csv", "trials.csv"):
        assert comparable_rows(one / name) == comparable_rows(other / name), f"{name} differs"
    resumed = re.search(r"^.*(resum|going on after).*$", log, re.MULTILINE)
    how = resumed[0][:120] if resumed else "it started over: its log says nothing of resuming"
    return f"same weights and results; {how}"


def wrong_setting(place: Place) -> None:
    log = place.run({"MODEL": "resnet19", "LOG_FORMAT": "json"}, code=78)
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events] == ["platform", "fault"], log
