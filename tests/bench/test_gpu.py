"""The runner of `make test-gpu`: what fails, dies, hangs or does not fit is told, and the rest goes on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import jobs, page, states
from bench.gpu.plan import STEPS, planned
from bench.gpu.steps import Budget, Outcome, Step, read_notes, run_all
from tests.conftest import ROOT, bare_environment

PATIENCE = 60.0  # seconds for a step that does nothing, on a machine that others use


def step(kind: str, limit: float = PATIENCE, seconds: float = 1.0) -> Step:
    return Step(kind, f"a step that {kind}", seconds, limit, ("tests.helpers.odd_steps", kind))


def run_steps(folder: Path, steps: list[Step], seconds: float = 1000.0) -> dict[str, Outcome]:
    seen: list[int] = []
    outcomes = run_all(steps, Budget(seconds), folder, folder / "log", lambda done: seen.append(len(done)))
    assert seen == list(range(1, len(steps) + 1)), "the results are written after every step"
    return {outcome.step.name: outcome for outcome in outcomes}


def is_alive(process: int) -> bool:
    """Whether a process is there and at work; one that is dead and not yet waited for is neither."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_goes_wrong_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    told = run_steps(tmp_path, [step("raises"), step("dies"), step("wrong"), step("goes well")])
    assert {name: outcome.outcome for name, outcome in told.items()} == {
        "raises": "failed", "dies": "failed", "wrong": "failed", "goes well": "passed",
    }  # fmt: skip
    assert "exit code 1" in told["raises"].why
    assert "SIGSEGV" in told["dies"].why
    assert "two runs differ" in told["wrong"].why
    assert "this went wrong" in (tmp_path / "log").read_text()
    assert all(outcome.notes for outcome in told.values()), "what was found before it is kept"


@pytest.mark.parametrize("ended_by", ["its limit", "the budget"])
def test_a_step_that_hangs_is_ended_with_all_its_processes(tmp_path: Path, ended_by: str) -> None:
    for seconds in (6.0, 60.0):  # longer where this machine did not even start it in time
        folder = tmp_path / f"{seconds:g}"
        folder.mkdir()
        hangs = step("hangs", limit=seconds if ended_by == "its limit" else 1000.0)
        told = run_steps(folder, [hangs, step("goes well")], 1000.0 if ended_by == "its limit" else seconds)
        found = {note.table: note.row["process"] for note in told["hangs"].notes}
        if set(found) == {"finds", "children"}:
            break
    assert set(found) == {"finds", "children"}, "what was found before it is kept"
    assert told["hangs"].outcome == "cut off"
    assert f"ended after {seconds:.0f} s" in told["hangs"].why
    ends = time.monotonic() + 30  # a child of the killed one is reaped by another process
    while any(is_alive(process) for process in found.values()) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not any(is_alive(process) for process in found.values())
    assert told["goes well"].outcome == ("passed" if ended_by == "its limit" else "skipped")


def test_what_no_longer_fits_is_skipped_and_what_fits_is_not(tmp_path: Path) -> None:
    told = run_steps(tmp_path, [step("raises", seconds=500.0), step("goes well", seconds=6.0)], seconds=100.0)
    assert told["raises"].outcome == "skipped"
    assert "about 500 s" in told["raises"].why
    assert told["goes well"].outcome == "passed"


def test_the_page_tells_every_step_and_every_find(tmp_path: Path) -> None:
    outcomes = list(run_steps(tmp_path, [step("wrong"), step("goes well"), step("raises", seconds=2000.0)]).values())
    about = page.About("cuda", 1000.0, "drawn", False, page.now())
    page.write(tmp_path, about, outcomes, ["bench"], 3.0)
    text, content = (tmp_path / page.PAGE).read_text(), json.loads((tmp_path / page.JSON).read_text())
    for said in ("FAILED", "SKIPPED", "two runs differ", "**NO**", "goes well", "Still to come: bench"):
        assert said in text
    assert content["verdict"] == "1 passed (goes well); 1 failed (wrong); 1 skipped (raises)"
    assert [found["outcome"] for found in content["steps"]] == ["failed", "passed", "skipped"]
    assert content["steps"][0]["notes"][1]["passed"] is False


def test_a_note_that_was_cut_off_in_the_middle_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "notes"
    lines = [
        '{"table": "a", "row": {"n": 1}, "key": "k"}',
        '{"table": "a", "row": {"n": 2}, "key": "k"}',
        '{"table": "a"',
    ]
    file.write_text("\n".join(lines))
    (note,) = read_notes(file)
    assert note.row == {"n": 2}, "a later note of the same key replaces the one before"


def test_the_plan_names_its_steps() -> None:
    assert [step.name for step in planned([], (), rehearse=False)] == [name for name, *_ in STEPS]
    assert [step.name for step in planned(["bench", "facts"], (), rehearse=True)] == ["facts", "bench"]
    with pytest.raises(ValueError, match="no such step: fact"):
        planned(["fact"], (), rehearse=False)


def test_the_page_of_the_documentation_has_every_step() -> None:
    page = (ROOT / "docs" / "gpu.md").read_text().partition("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    told = [name for row in rows for name in row.split("|")[1].replace("`", "").replace(" ", "").split(",")]
    assert told == [name for name, *_ in STEPS]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--device", "cpu"], "belong together"),
        (["--rehearse"], "belong together"),
        (["--images", "/nonexistent"], "train/<class>/"),
        (["fact"], "no such step"),
    ],
)
def test_a_command_that_cannot_be_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "bench.gpu", *arguments, "--output", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 78
    assert said in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_rehearsed_step_leaves_a_page(tmp_path: Path) -> None:
    """The very command of `make test-gpu`, one step of it."""
    command = [sys.executable, "-m", "bench.gpu", "facts", "--device", "cpu", "--rehearse", "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=bare_environment(), capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout
    text = (tmp_path / page.PAGE).read_text()
    assert "REHEARSAL" in text
    assert torch.__version__.split("+")[0] in text
    assert len(list(tmp_path.iterdir())) <= page.FILES


def test_bits_that_differ_are_found() -> None:
    one = {"model.a": torch.tensor([1.0, 2.0]), "optimizer.step": torch.tensor(3.0)}
    assert states.differing(one, one) == []
    assert states.differing(one, one | {"model.a": torch.tensor([1.0, 2.0000002])}) == ["model.a"]
    assert states.differing(one, one | {"optimizer.step": torch.tensor(4.0)}) == ["optimizer.step"]
    with pytest.raises(ValueError, match=r"optimizer\.step"):
        states.differing(one, {"model.a": one["model.a"]})


def test_runs_that_differ_are_found(one_run: Path, tmp_path: Path) -> None:
    """By the last bit of a weight, by a figure; not by a clock."""
    other = tmp_path / "other"
    shutil.copytree(one_run, other)
    assert jobs.differences(one_run, other) == []
    content = json.loads((other / "results.json").read_text())
    content["training"]["seconds"] += 1
    (other / "results.json").write_text(json.dumps(content))
    assert jobs.differences(one_run, other) == []
    content["training"]["epochs"][0]["train_loss"] += 1e-9
    (other / "results.json").write_text(json.dumps(content))
    assert jobs.differences(one_run, other) == ["training"]
    weights = torch.load(other / "weights.pt", weights_only=True)
    name, tensor = next(iter(weights.items()))
    weights[name] = tensor.clone().view(torch.int32).bitwise_xor_(1).view(torch.float32)
    torch.save(weights, other / "weights.pt")
    assert jobs.differences(one_run, other) == [name, "training"]


def test_a_job_gets_nothing_of_the_variables_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "vit")
    monkeypatch.setenv("OUTPUT", "s3://somewhere/else")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    found = jobs.environment({"EPOCHS": "1"})
    assert "MODEL" not in found
    assert "OUTPUT" not in found
    assert (found["EPOCHS"], found["CUDA_VISIBLE_DEVICES"]) == ("1", "1")
    assert str(ROOT) in found["PYTHONPATH"].split(os.pathsep)
