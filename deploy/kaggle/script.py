"""Runs the image-classification job on Kaggle. Written by `make kaggle`; the job's code is in CODE, as a zip in base64.

Reads data sets attached to the kernel from /kaggle/input and leaves the results in /kaggle/working.
"""

from __future__ import annotations

import base64
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# What was set when this file was written; change it here as you like.
SETTINGS: dict[str, str] = {}

# Module → what to install where Kaggle lacks it.
NEEDED: dict[str, str] = {}

CODE = ""

INPUT = Path("/kaggle/input")

# Asked of Kaggle's secrets (Add-ons), under the same names; nothing of them may stand in this file.
SECRETS = (
    *(f"AWS_{name}" for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY", "SESSION_TOKEN", "REGION", "ENDPOINT_URL")),
    *(f"MLFLOW_TRACKING_{name}" for name in ("URI", "USERNAME", "PASSWORD", "TOKEN")),
    "DATA_URL",
    "PRETRAINED_WEIGHTS",
)

# Stays as Kaggle has it: its torch fits its driver, and the rest fits its torch.
KEPT = ("torch", "torchvision", "numpy", "scipy", "pillow", "matplotlib")


def install_missing(folder: Path) -> None:
    missing = [requirement for module, requirement in NEEDED.items() if importlib.util.find_spec(module) is None]
    if not missing:
        return
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={installed(name)}\n" for name in KEPT if installed(name)))
    print("installing", *missing, flush=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--constraint", str(constraints), *missing]
    if subprocess.run(pip).returncode != 0:
        sys.exit(
            f"error: {', '.join(missing)} could not be installed.\n"
            "  Switch the kernel's internet on (make kaggle KAGGLE_INTERNET=1; needs a phone-verified account)."
        )


def installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def mounted(place: str) -> str:
    """Where a data set named by /kaggle/input/NAME/… really lies: Kaggle also mounts it as datasets/OWNER/NAME."""
    inside = Path(place)
    if inside.exists() or INPUT not in inside.parents:
        return place
    found = sorted(INPUT.glob(f"datasets/*/{inside.relative_to(INPUT)}"))
    return str(found[0]) if found else place


def secrets() -> dict[str, str]:
    """What of SECRETS is attached to this kernel. Kaggle's client says by an error that one is not there."""
    try:
        from kaggle_secrets import UserSecretsClient

        client = UserSecretsClient()
    except Exception:  # not on Kaggle, or a session without a token for them
        return {}
    found = {}
    for name in SECRETS:
        try:
            found[name] = str(client.get_secret(name))
        except Exception:  # its classes of errors differ from version to version
            continue
    if found:
        print("from Kaggle's secrets:", *found, flush=True)
    return found


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="job-"))  # what lies in /kaggle/working becomes the kernel's output
    zipfile.ZipFile(io.BytesIO(base64.b64decode(CODE))).extractall(folder)
    install_missing(folder)
    environment = {
        **os.environ,
        "KAGGLE_KERNEL_RUN_TYPE": os.environ.get("KAGGLE_KERNEL_RUN_TYPE", "Batch"),  # tells entrypoint.sh where it is
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        **secrets(),
        **SETTINGS,
    }
    for name in ("DATA_DIR", "PRETRAINED_WEIGHTS"):
        if environment.get(name):
            environment[name] = mounted(environment[name])
    return run(["sh", str(folder / "entrypoint.sh")], folder, environment)


def run(command: list[str], cwd: Path, env: dict[str, str]) -> int:
    return subprocess.run(command, cwd=cwd, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
