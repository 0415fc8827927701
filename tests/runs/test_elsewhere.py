"""A run that goes on on other hardware, or whose steps can no longer be replayed, ends well and says so everywhere."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from job.errors import Fault
from job.interrupt import Stop
from job.report import page
from job.report.tables import as_json
from job.results import Trial
from job.runs import provenance, status
from job.runs.checkpoint import Identity, Saved, decode, encode, goes_on
from job.runs.standing import Standing
from job.runs.status import Status
from job.storage.local import LocalStore
from tests.conftest import TINY, bare_environment
from tests.helpers import records
from tests.helpers.chaos import directory_files

SETTINGS = {"MODEL": "mlp"}
A100 = {"device": "cuda", "hardware": "NVIDIA A100", "precision": "bf16", "step": "graph"}
H100 = A100 | {"hardware": "NVIDIA H100"}


def identity(arithmetic: dict[str, Any]) -> Identity:
    return Identity(SETTINGS, "", arithmetic)


def test_another_gpu_is_noted_with_the_moment() -> None:
    """Twice, there and back, through a state's bytes."""
    saved = Saved(identity(A100), 1, Standing())
    second = goes_on(saved, identity(H100 | {"step": "eager"}), "here")
    assert second.arithmetic["hardware"] == "NVIDIA H100"
    back = decode(encode(Saved(second, 2, Standing(part="final"))))
    third = goes_on(back, identity(A100 | {"step": "eager"}), "here")
    assert third.changes == [
        "after 0 trials and 0 epochs of the next part: the hardware was NVIDIA A100 and is NVIDIA H100",
        "after 0 trials and 0 epochs of the next part: the kind of training steps was graph and is eager",
        "after 0 trials and 0 epochs of the next part: the hardware was NVIDIA H100 and is NVIDIA A100",
    ]
    assert goes_on(back, second, "here").changes == second.changes, "the same again is no change"


def test_another_precision_is_another_run() -> None:
    with pytest.raises(Fault, match="precision was bf16 and is fp16") as caught:
        goes_on(Saved(identity(A100), 1, Standing()), identity(H100 | {"precision": "fp16"}), "here")
    assert "hardware" not in caught.value.what


def test_a_state_of_before_the_hardware_was_noted_is_gone_on_with() -> None:
    older = {name: value for name, value in A100.items() if name != "hardware"}
    assert goes_on(Saved(identity(older), 1, Standing()), identity(H100), "here").changes == []


def test_what_changed_stands_in_status_results_and_page(tmp_path: Path) -> None:
    """In the words of the run's identity; the whole way is gone by the slow test below."""
    moved = ["after 3 trials and 0 epochs of the next part: the hardware was NVIDIA A100 and is NVIDIA H100"]
    with Status(LocalStore(tmp_path), Stop()) as told:
        told.computes_on("NVIDIA H100", moved)
    said = status.read(LocalStore(tmp_path))
    assert (said["hardware"], said["changes"]) == ("NVIDIA H100", moved)

    fell = Trial(1, 1e-3, (), note="eager steps: not permitted")
    noted = provenance.changes(moved, [fell], "eager steps: no room")["changes"]
    assert noted == [*moved, "trial 2: eager steps: not permitted", "final training: eager steps: no room"]
    run = records.run_report()
    run = replace(run, provenance=run.provenance | {"hardware": "NVIDIA H100", "changes": noted})
    assert as_json(run)["provenance"]["changes"] == noted
    text = html.unescape(page.html(run))
    assert all(change in text for change in noted)


# A job on a CPU that takes itself to be on a GPU: a recorded step is the function itself, to the same bits. HARDWARE is
# what it runs on, FAILS the recording from which on none succeeds, DIES how many trials a state has that ends it.
PATCHED = """
import os, sys
from dataclasses import replace
from job import device
from job.device import graphs
from job.runs.status import Status

choose, stands, count = device.choose, Status.stands, 0

def chosen(name, precision, kept=None):
    step = (kept or {}).get("step", "graph")
    return replace(choose(name, precision, kept), step=step, hardware=os.environ["HARDWARE"])

def record(run, pool):
    global count
    count += 1
    if count >= int(os.environ["FAILS"]):
        raise RuntimeError("operation not permitted when stream is capturing")
    return run

def die(status, standing):
    stands(status, standing)
    if len(standing.trials) >= int(os.environ["DIES"]):
        os._exit(9)

device.choose, graphs.record_graph, Status.stands = chosen, record, die
from job.__main__ import main
sys.exit(main([]))
"""


def attempt(directory: Path, *, hardware: str = "GPU A", fails: int = 99, dies: int = 99) -> tuple[int, str]:
    """The exit code, and all that was said."""
    told = {"HARDWARE": hardware, "FAILS": str(fails), "DIES": str(dies), "MAX_EVALS": "3", "RUN_ID": "run"}
    done = subprocess.run(
        [sys.executable, "-c", PATCHED],
        cwd=directory,
        env=bare_environment() | TINY | told | {"LOG_FORMAT": "json", "WORKERS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_goes_on_elsewhere_with_eager_steps_and_tells_it(tmp_path: Path) -> None:
    """Begun with replayed steps, which the second attempt's device cannot record; beside it a run in which that fails
    from the second trial on. Recorded steps are the eager ones here, so that all weights are the same.
    """
    moved, stayed = tmp_path / "moved", tmp_path / "stayed"
    moved.mkdir()
    stayed.mkdir()
    code, said = attempt(moved, dies=1)
    assert code == 9, said
    code, said = attempt(moved, hardware="GPU B", fails=1)
    assert code == 0, said
    assert "cannot be replayed" in said
    changes = [
        "the hardware was GPU A and is GPU B",
        "the kind of training steps was graph and is eager",
    ]
    files = directory_files(moved / "outputs" / "run")
    results, status = (json.loads(files[name]) for name in ("results.json", "status.json"))
    for told in (results["provenance"]["changes"], status["changes"]):
        assert [change.partition(": ")[2] for change in told] == changes
        assert all(re.match(r"after [12] trials ", change) for change in told), told  # as the state that was stored
    assert status["hardware"] == results["provenance"]["hardware"] == "GPU B"
    for change in changes:
        assert change in files["report.html"].decode()
        assert change in said

    code, said = attempt(stayed, fails=1 + 3 + 3)  # two sizes and an evaluation: of the proof, and of the first trial
    assert code == 0, said
    other = directory_files(stayed / "outputs" / "run")
    told = json.loads(other["results.json"])["provenance"]["changes"]
    why = "eager steps: operation not permitted when stream is capturing"
    assert told == [f"trial 2: {why}", f"trial 3: {why}", f"final training: {why}"]
    assert "trial 2: its steps cannot be replayed" in said
    assert other["weights.pt"] == files["weights.pt"]
