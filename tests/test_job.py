"""The whole job as a person starts it: a real process, real files, real exit codes."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from job import errors, models
from tests.conftest import ROOT, TINY, Job, bare_environment, on_a_terminal, start_job

FILES = {
    "results.txt",
    "results.json",
    "test_predictions.csv",
    "training_curves.png",
    "weights.pt",
    "model.json",
    "report.html",
    "per_class.csv",
    "confusion_matrix.png",
    "mistakes.png",
    "history.csv",
    "trials.csv",
    "tuning.png",
    "manifest.json",
    "status.json",
}


def only_run(tmp_path: Path) -> Path:
    (run,) = (tmp_path / "outputs").iterdir()
    return run


def without_clock(value: Any) -> Any:
    """Results without what is measured with a clock."""
    if isinstance(value, dict):
        return {key: without_clock(item) for key, item in value.items() if "seconds" not in key}
    return [without_clock(item) for item in value] if isinstance(value, list) else value


def test_the_whole_job(job: Job, tiny: Job, tmp_path: Path) -> None:
    done = job(**TINY | {"MODEL": "cnn"})
    assert done.returncode == 0, done.stdout + done.stderr
    run = only_run(tmp_path)
    assert {file.name for file in run.iterdir()} == FILES
    assert run.name.startswith("cnn-")

    results = json.loads((run / "results.json").read_text())
    assert results["model"]["parameters"] == models.find("cnn").PARAMETERS
    sidecar = json.loads((run / "model.json").read_text())
    assert sidecar["test"] == results["test"]
    assert (sidecar["model"], sidecar["classes"], sidecar["image_size"]) == ("cnn", results["data"]["classes"], 32)
    assert (len(sidecar["mean"]), len(sidecar["std"]), sidecar["precision"]) == (3, 3, "fp32")
    assert (sidecar["dataset"], sidecar["data_sha256"]) == ("synthetic", results["data"]["sha256"])
    evaluation = results["evaluation"]
    assert 100 * evaluation["correct"] / evaluation["images"] == results["test"]["accuracy_percent"]

    best = min(results["tuning"]["trials"], key=lambda trial: trial["validation_loss"])
    assert results["recipe"]["learning_rate"] == best["learning_rate"]
    assert results["recipe"]["epochs"] == best["best_epoch"] == len(results["training"]["epochs"])
    assert results["test"]["accuracy_percent"] == results["training"]["epochs"][-1]["test_accuracy_percent"]
    assert results["settings"]["SEED"] == {"value": 3407, "source": "default"}
    assert results["settings"]["MAX_EVALS"] == {"value": 2, "source": "environment"}
    assert results["data"]["train_images"] == 200
    assert results["provenance"]["versions"]["torch"] == torch.__version__

    manifest = json.loads((run / "manifest.json").read_text())
    assert set(manifest["files"]) == FILES - {"manifest.json", "status.json"}
    for name, said in manifest["files"].items():
        content = (run / name).read_bytes()
        assert said == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    weights = torch.load(run / "weights.pt", weights_only=True)
    model = models.find("cnn").build(10)
    model.load_state_dict(weights)
    assert (run / "results.txt").read_text().strip() in done.stdout
    assert_a_line_an_epoch(done.stdout)
    assert str(run.relative_to(tmp_path)) in done.stdout

    again = tiny(MODEL="cnn")
    assert again.returncode == 0
    assert "finished already" in again.stdout
    assert "epoch=" not in again.stdout


def test_the_same_seed_gives_the_same_run(job: Job, tiny: Job, tmp_path: Path) -> None:
    """In a process of its own and in this one, which has done other things before."""
    assert job(**TINY | {"OUTPUT": "a"}).returncode == tiny(OUTPUT="b").returncode == 0
    one, two = runs = [next((tmp_path / name).iterdir()) for name in ("a", "b")]
    assert (one / "weights.pt").read_bytes() == (two / "weights.pt").read_bytes()
    first, second = (without_clock(json.loads((run / "results.json").read_text())) for run in runs)
    first["settings"].pop("OUTPUT"), second["settings"].pop("OUTPUT")
    assert first == second


def test_given_rate_and_epochs_skip_the_search(tiny: Job, tmp_path: Path) -> None:
    done = tiny(LEARNING_RATE="0.001", EPOCHS="3", PROGRESS="line")
    assert done.returncode == 0
    run = only_run(tmp_path)
    assert not (run / "tuning.png").exists()
    with (run / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]
    assert "tune" not in done.stdout


def test_fresh_starts_over_and_removes_what_was_there(tiny: Job, tmp_path: Path) -> None:
    assert tiny(RUN_ID="mine").returncode == 0
    other = tiny(RUN_ID="mine", LEARNING_RATE="0.001", EPOCHS="1")
    assert other.returncode == 78
    assert "LEARNING_RATE was None and is 0.001" in other.stdout
    assert "FRESH=1" in other.stdout
    assert tiny(RUN_ID="mine", LEARNING_RATE="0.001", EPOCHS="1", FRESH="1").returncode == 0
    assert {file.name for file in only_run(tmp_path).iterdir()} == FILES - {"tuning.png"}


def assert_a_line_an_epoch(log: str) -> None:
    lines = [line for line in log.splitlines() if "epoch=" in line and "train_loss=" in line]
    assert len([line for line in lines if line.startswith("tune trial=")]) == 4
    assert lines[-1].startswith("train epoch=")
    for part in ("test_loss=", "test_accuracy=", "images_per_second=", "left=0m00s"):
        assert part in lines[-1]


def test_json_lines(tiny: Job) -> None:
    done = tiny(LOG_FORMAT="json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"run", "device", "tune", "epoch", "trial", "train", "results", "finished"} <= {e["event"] for e in events}
    epoch = next(e for e in events if e["event"] == "epoch" and e["phase"] == "train")
    assert isinstance(epoch["test_loss"], float)
    bad = tiny(LOG_FORMAT="json", MODEL="none")
    (fault,) = [json.loads(line) for line in bad.stdout.splitlines()]
    assert fault["exit_code"] == 78
    assert "MODEL=none" in fault["what"]


def test_a_bar_on_a_terminal(tmp_path: Path) -> None:
    """On a real pseudo-terminal: a bar that moves, and the results at the end."""
    longer = {"DATA_LIMIT": "4000", "TUNE_MAX_EPOCHS": "4"}  # the bar shows itself every tenth of a second
    code, shown = on_a_terminal(tmp_path, **TINY | longer, TERM="xterm", COLUMNS="120")
    assert code == 0
    assert re.search(rb"tune [12]/2 epoch \d", shown)
    assert re.search(rb"train epoch \d/", shown)
    assert b"img/s" in shown
    assert b"Test accuracy" in shown


def test_an_own_folder_of_two_classes(tiny: Job, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 5)):
        for label, name in enumerate(("dark", "bright")):
            (tmp_path / "images" / part / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 80, (40, 40, 3)) + 150 * label
                Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "images" / part / name / f"{number}.png")
    folder = {"DATASET": "folder", "DATA_DIR": "images", "DATA_LIMIT": "", "LEARNING_RATE": "0.001", "EPOCHS": "3"}
    done = tiny(**folder)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((only_run(tmp_path) / "results.json").read_text())
    assert results["data"]["classes"] == ["bright", "dark"]
    assert results["test"]["accuracy_percent"] == 100, "night and day"

    Image.new("RGB", (32, 32)).save(tmp_path / "images" / "train" / "dark" / "new.png")
    changed = tiny(**folder)
    assert changed.returncode == 78
    assert "have changed" in changed.stdout

    (tmp_path / "images" / "train" / "dark" / "broken.png").write_bytes(b"broken")
    broken = tiny(**folder, FRESH="1")
    assert broken.returncode == 78
    assert "train/dark/broken.png (not a readable image" in broken.stdout


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_a_signal_stops_at_the_next_batch(tmp_path: Path, signum: int, code: int) -> None:
    endless = TINY | {"LEARNING_RATE": "0.001", "EPOCHS": "100000"}
    process = start_job(tmp_path, endless)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("train epoch=2"):
            break
    started = time.monotonic()
    process.send_signal(signum)
    rest = process.stdout.read()
    assert process.wait(30) == code
    assert time.monotonic() - started < 10
    assert f"stopped by signal {int(signum)}" in rest
    assert not list((tmp_path / "outputs").rglob("manifest.json")), "not finished"


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"DATASET": "folder", "DATA_DIR": "nowhere"}, "DATA_DIR: nowhere is not a directory"),
        ({"DEVICE": "cuda:7"}, "DEVICE=cuda:7"),
        ({"PRECISION": "fp16"}, "PRECISION=fp16 is not native"),
        ({"TUNE_PERCENT": "1"}, "TUNE_PERCENT=1 of 200"),
        ({"MODEL": "resnet18_pretrained", "PRETRAINED_WEIGHTS": "nowhere.pth"}, "nowhere.pth is not a file"),
    ],
)
def test_a_fault_that_a_retry_cannot_mend(tiny: Job, variables: dict[str, str], told: str) -> None:
    done = tiny(**(variables | ({"LEARNING_RATE": "0.1", "EPOCHS": "1"} if "OUTPUT" in variables else {})))
    assert done.returncode == 78, done.stdout + done.stderr
    assert told in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_without_the_packages_it_says_how_to_get_them() -> None:
    """The system's Python, as after `make demo` in a new terminal: here one that looks into no site-packages."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "job"], cwd=ROOT, env=bare_environment(), capture_output=True, text=True
    )
    assert done.returncode == 78
    assert re.fullmatch(r"this Python .* lacks the package \w+\.\n  Run make install, then .*\n", done.stderr)


def test_a_torch_that_is_too_old_is_refused(job: Job, tmp_path: Path) -> None:
    """By what its package says of itself, before it is loaded."""
    about = tmp_path / "packages" / "torch-2.5.1.dist-info" / "METADATA"
    about.parent.mkdir(parents=True)
    about.write_text("Metadata-Version: 2.1\nName: torch\nVersion: 2.5.1\n")
    done = job(**TINY, PYTHONPATH=f"{about.parent.parent}{os.pathsep}{ROOT}")
    assert done.returncode == 78, done.stdout + done.stderr
    assert f"torch 2.5.1 of this Python ({sys.executable}) is older than 2.6, the oldest" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("version", "too_old"),
    [("1.13.1", True), ("2.5.1+cu124", True), ("2.6.0a0+git1", False), ("2.10.0", False), ("unknown", False)],
)
def test_which_torch_is_too_old(monkeypatch: pytest.MonkeyPatch, version: str, too_old: bool) -> None:
    monkeypatch.setattr(errors, "version", lambda name: version)
    with pytest.raises(errors.Fault, match=r"older than 2\.6") if too_old else nullcontext():
        errors.check_torch()


def test_cifar10_that_does_not_arrive_is_not_replaced_by_anything(tiny: Job, tmp_path: Path) -> None:
    done = tiny(DATASET="cifar10", DATA_URL="http://127.0.0.1:9/a.tar.gz")
    assert done.returncode == 75
    assert "cifar-10-python.tar.gz could not be fetched" in done.stdout
    (run,) = (tmp_path / "outputs").iterdir()
    assert [file.name for file in run.iterdir()] == ["status.json"]
    assert json.loads((run / "status.json").read_text())["last_error"]["exit_code"] == 75
