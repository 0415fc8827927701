"""The pretrained ResNet-18 on photographs at 224 pixels: its own stem, killed and gone on, verified, exported."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY, bare_environment, start_job
from tests.helpers import photographs
from tests.helpers.chaos import comparable, directory_files
from tests.helpers.weight_files import GOOD, network

SECONDS = 1200  # for a job on two busy cores
RUN = {name: value for name, value in TINY.items() if name != "DATA_LIMIT"} | {
    "MODEL": "resnet18_pretrained",
    "DATASET": "folder",
    "IMAGE_SIZE": "224",
    "BATCH_SIZE": "50",
    "LEARNING_RATE": "0.00001",
    "EPOCHS": "2",
    "RUN_ID": "run",
    "LOG_FORMAT": "json",
}


@pytest.mark.slow
@pytest.mark.timeout(6 * SECONDS)
def test_the_pretrained_network_at_224_pixels(tmp_path: Path) -> None:
    """An epoch on 200 images; the stem starts from the file's weights, which a small rate hardly moves."""
    images = photographs.drawn(tmp_path / "images", 252, (320, 240))
    weights = tmp_path / "weights.pth"
    start = network(1).state_dict()
    weights.write_bytes(GOOD["published"](start))
    variables = RUN | {"DATA_DIR": str(images), "PRETRAINED_WEIGHTS": str(weights)}
    process = start_job(tmp_path, variables | {"OUTPUT": "killed"})
    assert process.stdout is not None
    for line in process.stdout:
        if '"event": "epoch"' in line and list(tmp_path.glob("killed/run/checkpoint/[01]")):
            break
    process.kill()
    process.communicate(timeout=60)
    said = {}
    for place in ("killed", "alone"):
        process = start_job(tmp_path, variables | {"OUTPUT": place})
        said[place], _ = process.communicate(timeout=SECONDS)
        assert process.returncode == 0, said[place]
    assert '"event": "resume"' in said["killed"]
    mine, theirs = (directory_files(tmp_path / place / "run") for place in ("killed", "alone"))
    assert comparable(mine) == comparable(theirs)
    state = torch.load(io.BytesIO(mine["weights.pt"]), weights_only=True)
    stem = next(tensor for name, tensor in state.items() if tensor.dim() == 4)
    assert stem.shape == start["conv1.weight"].shape == (64, 3, 7, 7)
    assert (stem - start["conv1.weight"]).abs().max() < 1e-3
    assert json.loads(mine["model.json"])["image_size"] == 224
    for mode, told in (("verify", "equal to the last bit"), ("export", "model.onnx")):
        done = subprocess.run(
            [sys.executable, "-m", "job"],
            cwd=tmp_path,
            env=bare_environment() | variables | {"OUTPUT": "killed", "MODE": mode},
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
        assert done.returncode == 0, done.stdout
        assert told in done.stdout
    shape = json.loads((tmp_path / "killed/run/model.onnx.json").read_text())["input"]["shape"]
    assert shape == ["batch", 224, 224, 3]
