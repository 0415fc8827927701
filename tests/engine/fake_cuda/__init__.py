"""A GPU that is not there: torch's fake tensors (shapes, dtypes and devices without numbers) on `cuda:0`.

`FakeTensorMode` alone runs forward passes on `cuda:0`. Backward passes ask libc10_cuda for the device: `runtime.cpp`
answers, `driver.c` stands in for the driver. It shows device and dtype faults, waits for the host, strides that fused
Adam refuses, which attention is chosen, and how many kernels a step takes; no capture, no numbers, no time.

`steps`: the process within which torch sees that GPU.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[2]


def missing() -> str:
    """Why there can be no fake GPU here; an empty text where there can."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA"
    lacking = [compiler for compiler in ("cc", "c++") if shutil.which(compiler) is None]
    return f"no {' and no '.join(lacking)}: a C and a C++ compiler are needed" if lacking else ""


def compile_into(folder: Path) -> None:
    """`libcuda.so.1` and `runtime.so` from the sources beside this file."""
    for command in (
        ["cc", "-shared", "-fPIC", "-O1", str(HERE / "driver.c"), "-o", str(folder / "libcuda.so.1")],
        ["c++", "-std=c++17", "-shared", "-fPIC", "-O1", str(HERE / "runtime.cpp"), "-o", str(folder / "runtime.so")],
    ):
        subprocess.run(command, check=True, timeout=120)


def rows_of(folder: Path, capability: int, *arguments: str) -> list[dict[str, Any]]:
    """What `steps` tells of such a GPU, a row a line."""
    environment = os.environ | {
        "FAKE_SM": str(capability),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("LD_LIBRARY_PATH")])),
        "LD_PRELOAD": str(folder / "runtime.so"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-B", "-m", "tests.engine.fake_cuda.steps", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1500)
    print(done.stderr, end="")
    assert done.returncode == 0, done.stdout
    return [json.loads(line) for line in done.stdout.splitlines()]
