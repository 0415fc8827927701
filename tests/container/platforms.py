"""The image as platforms start it: an indexed job, SageMaker, Kaggle, and this project’s own make."""

from __future__ import annotations

import json
import os
import struct
import sys
import zlib
from pathlib import Path

from tests.container.place import FILES, STRICT, TINY, Place, outputs_are_whole
from tests.container.shell import IMAGE, ROOT, sh


def indexed_job(place: Place) -> str:
    settings = {**TINY, "JOB_COMPLETION_INDEX": "1", "MODELS": "cnn, mlp"}
    log = place.run(settings, "--cpus", "1")
    assert log.startswith("platform: Kubernetes indexed job, JOB_COMPLETION_INDEX=1, MODEL=mlp; threads: "), log[:200]
    assert place.finished_run().name.startswith("mlp-")
    if os.cpu_count() != 1:
        assert "threads: 1 (CPU quota)" in log, log[:200]
    place.run({**settings, "JOB_COMPLETION_INDEX": "2"}, code=78)
    return log.splitlines()[0]


def sagemaker(place: Place, work: Path) -> None:
    folders = [work / "ml" / name for name in ("model", "output/data", "checkpoints")]
    for folder in folders:
        folder.mkdir(parents=True)
    for folder in (work / "ml").rglob("*"):
        folder.chmod(0o777)
    settings = {**TINY, "MODEL": "mlp", "TRAINING_JOB_ARN": "arn:aws:sagemaker:example"}
    options = [*STRICT, *place.options(settings), "-v", f"{work / 'ml'}:/opt/ml"]
    log = sh("podman", "run", "--rm", *options, IMAGE, "train").stdout
    assert log.startswith("platform: SageMaker, OUTPUT=/opt/ml/checkpoints; "), log[:200]
    assert (folders[0] / "weights.pt").is_file()
    assert list(folders[1].glob("mlp-*/results.txt"))
    failed = sh("podman", "run", "--rm", *options, "--env=MODEL=resnet19", IMAGE, "train", check=False)
    assert failed.returncode == 78, failed.stdout
    reason = (work / "ml" / "output" / "failure").read_text()
    assert reason.startswith("exit code 78\nerror: 1 setting is wrong"), reason


def kaggle(work: Path) -> str:
    """The generated script in a tree like Kaggle's: read-only input, its own working folder, its own packages."""
    tree = work / "kaggle"
    for split, count in (("train", 12), ("test", 4)):
        for label, shade in (("dark", 40), ("light", 200)):
            folder = tree / "input" / "datasets" / "someone" / "shades" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                (folder / f"{number}.png").write_bytes(png(shade + number))
    settings = {**TINY, "DATASET": "folder", "DATA_DIR": "/kaggle/input/shades", "DATA_LIMIT": "", "MODEL": "mlp"}
    settings["KAGGLE_USERNAME"] = "someone"
    sh(sys.executable, "-m", "deploy.kaggle.render", tree / "src", env={**os.environ, **settings})
    (tree / "working").mkdir()
    (tree / "working").chmod(0o777)
    mounts = [
        *("-v", f"{tree / 'input'}:/kaggle/input:ro", "-v", f"{tree / 'working'}:/kaggle/working"),
        *("-v", f"{tree / 'src'}:/kaggle/src:ro", "--workdir", "/kaggle/working", "--env=OUTPUT="),
    ]
    log = sh("podman", "run", "--rm", *STRICT, *mounts, "--entrypoint", "python3", IMAGE, "/kaggle/src/train.py").stdout
    assert log.startswith("platform: Kaggle, OUTPUT=/kaggle/working; "), log[:200]
    (manifest,) = (tree / "working").glob("*/manifest.json")
    outputs_are_whole(manifest.parent, FILES - {"tuning.png"})
    others = [entry.name for entry in (tree / "working").iterdir() if entry != manifest.parent]
    assert not others, f"/kaggle/working also holds {others}"
    return log.splitlines()[1][:120]


def png(shade: int) -> bytes:
    """A grey picture, 32 by 32, written by hand: this program needs Python's own library alone."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    rows = b"".join(b"\0" + bytes([shade]) * 32 for _ in range(32))
    header = struct.pack(">IIBBBBB", 32, 32, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def make_docker_run(work: Path) -> None:
    settings = {**TINY, "MODEL": "mlp", "OUTPUT": str(work / "mine"), "DATA_DIR": str(work / "mydata")}
    sh("make", "docker-run", "ENGINE=podman", f"IMAGE={IMAGE}", env={**os.environ, **settings})
    assert list((work / "mine").glob("mlp-*/manifest.json"))


def make_run_all(work: Path) -> str:
    """All five models; the pretrained one from a file with torchvision's own structure, since there is no network."""
    weights = work / "weights"
    weights.mkdir()
    weights.chmod(0o777)
    draw = "import torch, torchvision as t; torch.save(t.models.resnet18().state_dict(), '/weights/resnet18.pth')"
    sh("podman", "run", "--rm", *STRICT, "-v", f"{weights}:/weights", "--entrypoint", "python", IMAGE, "-c", draw)
    settings = {**TINY, "OUTPUT": str(work / "all"), "DATA_DIR": str(work / "mydata")}
    settings["PRETRAINED_WEIGHTS"] = str(weights / "resnet18.pth")
    done = sh("make", "run-all", "RUNNER=docker", "ENGINE=podman", f"IMAGE={IMAGE}", env={**os.environ, **settings})
    runs = [manifest.parent for manifest in (work / "all").glob("*/manifest.json")]
    models = sorted(json.loads((run / "results.json").read_text())["model"]["name"] for run in runs)
    assert models == sorted(file.stem for file in (ROOT / "job/models").glob("*.py") if file.stem != "__init__"), (
        done.stdout
    )
    for run in runs:
        outputs_are_whole(run, FILES - {"tuning.png"})
    return ", ".join(models)
