"""`MODE=verify` over a real run, and over copies that hold something else than they report."""

from __future__ import annotations

import io
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from job import settings
from job.console.progress import Progress
from job.device import Compute
from job.errors import Fault
from job.interrupt import Stop
from job.modes import verify
from tests.conftest import Job, replace_file
from tests.helpers.s3_server import Server


@pytest.fixture
def copy(one_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run, as `outputs/mine` in an empty directory."""
    target = tmp_path / "outputs" / "mine"
    shutil.copytree(one_run, target)
    return target


@pytest.fixture
def refused(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a person reads where the copy does not hold what it reports."""

    def told(**variables: str) -> str:
        monkeypatch.chdir(tmp_path)
        for name, value in ({"MODE": "verify", "RUN_ID": "mine", "DEVICE": "cpu"} | variables).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Fault) as caught:
            verify.run(settings.load(), Progress("off"), Stop())
        assert caught.value.exit_code == 78
        return str(caught.value)

    return told


def test_a_run_gives_what_it_reports_to_the_last_bit(copy: Path, job: Job) -> None:
    """Its name is enough: which images, how many and from which seed, the run knows itself."""
    before = {file.name: file.read_bytes() for file in copy.iterdir()}
    done = job(MODE="verify", RUN_ID="mine", LOG_FORMAT="json", DEVICE="cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    verified = next(event for event in told if event["event"] == "verified")
    assert verified["exactly"] is True
    assert verified["loss"] == json.loads(before["results.json"])["test"]["loss"]
    assert {file.name: file.read_bytes() for file in copy.iterdir()} == before, "nothing is written"


def test_every_damaged_file_is_named(copy: Path, refused: Any) -> None:
    weights = bytearray((copy / "weights.pt").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "weights.pt").write_bytes(weights)
    (copy / "history.csv").unlink()
    said = refused()
    assert "weights.pt is not the file that its manifest names" in said
    assert "history.csv is missing" in said
    assert "report.html" not in said


def test_other_weights_are_found_out(copy: Path, refused: Any) -> None:
    """Even where the manifest vouches for them."""
    weights = torch.load(copy / "weights.pt", weights_only=True)
    weights["1.bias"] += 0.05
    out = io.BytesIO()
    torch.save(weights, out)
    replace_file(copy, "weights.pt", out.getvalue())
    assert "does not give what it reports: test loss" in refused()


def test_retouched_figures_are_found_out(copy: Path, refused: Any) -> None:
    results, about = (json.loads((copy / name).read_text()) for name in ("results.json", "model.json"))
    results["test"]["accuracy_percent"] += 100 / 40  # one image of forty
    replace_file(copy, "results.json", json.dumps(results).encode())
    assert "report different figures" in refused()
    about["test"] = results["test"]
    replace_file(copy, "model.json", json.dumps(about).encode())
    assert "does not give what it reports" in refused()


def test_other_images_are_found_out(copy: Path, refused: Any) -> None:
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["settings"]["DATA_LIMIT"] = 300
    (copy / "manifest.json").write_text(json.dumps(manifest))
    assert "is not the data set of" in refused()


def test_variables_that_say_something_else_than_the_run(copy: Path, refused: Any) -> None:
    said = refused(MODEL="cnn", SEED="1")
    assert "MODEL is set to cnn, but the run has mlp" in said
    assert "SEED is set to 1, but the run has 3407" in said


def test_a_run_that_is_not_there(copy: Path, refused: Any) -> None:
    said = refused(RUN_ID="other")
    assert "other holds no finished run" in said
    assert "finished runs below OUTPUT: mine" in said
    assert "Run the job first" in refused(OUTPUT="nowhere")


def test_a_bucket(
    one_run: Path, job: Job, swift: Server, owner: Any, bucket: str, s3_environment: dict[str, str]
) -> None:
    for file in one_run.iterdir():
        owner.put_object(Bucket=bucket, Key=f"runs/mine/{file.name}", Body=file.read_bytes())
    variables = {"MODE": "verify", "RUN_ID": "mine", "OUTPUT": f"s3://{bucket}/runs", "DEVICE": "cpu"}
    done = job(**variables, **s3_environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "equal to the last bit" in done.stdout


def test_how_far_figures_may_be_off() -> None:
    """Not at all with the same arithmetic; else by precision, and never by less than one image."""
    here = Compute(torch.device("cpu"), "fp32", "", "this processor")
    was = {
        "device": "cpu",
        "hardware": "this processor",
        "precision": "fp32",
        "arithmetic": here.arithmetic(),
        "versions": {"torch": torch.__version__, "cuda": torch.version.cuda},
    }
    assert verify.tolerance(here, was) == verify.EXACT
    threads = here.arithmetic() | {"threads": 99}
    for other in ({"hardware": "another"}, {"arithmetic": threads}, {"versions": {"torch": "1.0"}}):
        assert verify.tolerance(here, was | other) == verify.SAME_PRECISION
    bf16 = replace(here, precision="bf16")
    assert verify.tolerance(bf16, was) == verify.OTHER_PRECISION
    assert (
        verify.tolerance(here, was | {"precision": "bf16", "arithmetic": bf16.arithmetic()}) == verify.OTHER_PRECISION
    )
