"""Whole runs as a user starts them, on real images where a folder of them is named; MODE=check under a sanitizer."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from bench.gpu import jobs
from bench.gpu.work import Wanted

# As the notebook tunes them; the large one with a rate and epochs given.
SETTINGS: dict[str, dict[str, str]] = {
    "mlp": {},
    "cnn": {},
    "resnet18": {"LEARNING_RATE": "0.00033", "EPOCHS": "6"},
}
REHEARSED = {
    "mlp": {"DATA_LIMIT": "200", "MAX_EVALS": "2", "TUNE_MAX_EPOCHS": "2", "TUNE_PERCENT": "50"},
    "cnn": {"DATA_LIMIT": "100", "MAX_EVALS": "2", "TUNE_MAX_EPOCHS": "1", "TUNE_PERCENT": "50"},
    "resnet18": {"DATA_LIMIT": "20", "LEARNING_RATE": "0.001", "EPOCHS": "1", "BATCH_SIZE": "10"},
}
GUESSING = 10.0  # percent: ten classes of equal size
SANITIZER = "compute-sanitizer"


def data(wanted: Wanted) -> dict[str, str]:
    """The images named, else drawn ones. A rehearsal draws a folder: files are what a proof usually is given."""
    images = draw_folder(wanted.scratch / "images") if wanted.rehearse and wanted.images is None else wanted.images
    return {"DATASET": "synthetic"} if images is None else {"DATASET": "folder", "DATA_DIR": str(images)}


def draw_folder(folder: Path) -> Path:
    """Noise as JPEG files: ten classes, 20 images to train on and 4 to test each."""
    random = np.random.default_rng(0)
    for part, count in (("train", 20), ("test", 4)):
        for label in range(10):
            place = folder / part / f"class {label}"
            place.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.jpg")
    return folder


def run(wanted: Wanted, model: str) -> None:
    """A run to its end, with the figures that it reports."""
    given = REHEARSED[model] if wanted.rehearse else SETTINGS[model]
    where = {"MODEL": model, "DEVICE": wanted.device, "OUTPUT": str(wanted.scratch), "RUN_ID": "run"}
    ended = jobs.run(wanted.scratch, data(wanted) | given | where)
    print(ended.output, flush=True)
    if ended.code:
        failed = {"model": model, "ended with": f"exit code {ended.code}: {ended.last}"}
        wanted.notes.add("whole runs", failed, False)
        return
    results = jobs.results(wanted.scratch / "run")
    accuracy, trials = results["test"]["accuracy_percent"], results["tuning"]["trials"]
    arithmetic = results["provenance"]["arithmetic"]
    row: dict[str, Any] = {
        "model": model,
        "data": f"{results['data']['name']}, {results['data']['train_images']:,} images",
        "arithmetic": f"{arithmetic['precision']}, {arithmetic['step']} steps",
        "trials": f"{len(trials)} {results['provenance'].get('workers', {}).get('kind', '')}",
        "learning rate": f"{results['recipe']['learning_rate']:.3g}",
        "epochs": results["recipe"]["epochs"],
        "test loss": round(results["test"]["loss"], 4),
        "accuracy, %": round(accuracy, 2),
        "search, s": round(results["tuning"]["seconds"], 1),
        "training, s": round(results["training"]["seconds"], 1),
        "whole process, s": round(ended.seconds, 1),
        "curve": [epoch["test_accuracy_percent"] for epoch in results["training"]["epochs"]],
    }
    wanted.notes.add("whole runs", row, None if wanted.rehearse else accuracy > 2 * GUESSING)


def sanitize(wanted: Wanted) -> None:
    """memcheck over a look at everything, with a few steps of the smallest model."""
    program = shutil.which(SANITIZER) or shutil.which(f"/usr/local/cuda/bin/{SANITIZER}")
    if program is None:
        wanted.notes.skip(SANITIZER, "the program is not there")
        return
    if wanted.device == "cpu":
        wanted.notes.skip(SANITIZER, "it looks at GPUs alone")
        return
    settings = {"MODE": "check", "MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "256", "DEVICE": wanted.device}
    before = (program, "--tool", "memcheck", "--error-exitcode", "99", "--print-limit", "20")
    ended = jobs.run(wanted.scratch, settings | {"OUTPUT": str(wanted.scratch)}, before)
    print(ended.output, flush=True)
    summary = [line for line in ended.output.splitlines() if "ERROR SUMMARY" in line]
    row = {"MODE=check": f"exit code {ended.code}", "it says": summary[-1].strip("= ") if summary else ended.last}
    wanted.notes.add(SANITIZER, row, ended.code == 0 and bool(summary))
