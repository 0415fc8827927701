"""Writes a folder that `kaggle kernels push -p FOLDER` takes: `python -m deploy.kaggle.render FOLDER`.

Kaggle runs no container of the user's own, but it has torch. The folder holds the kernel's metadata and one script that
carries the job's code and the variables that are set, and starts the job with Kaggle's own packages.

Variables: KAGGLE_USERNAME (else the one in ~/.kaggle/kaggle.json), MACHINE_SHAPE, KAGGLE_INTERNET, KAGGLE_DATASETS.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

from deploy import variables

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CIFAR10 = "pankrzysiu/cifar10-python"  # the archive as published; the job checks its MD5 wherever it comes from
NEEDED = {
    "hyperopt": "hyperopt",
    "pydantic_settings": "pydantic-settings",
    "boto3": "boto3",
    "safetensors": "safetensors",
    "tqdm": "tqdm",
}
HOURS = "11.5"  # a session ends after 12 hours, and what was not written by then is lost
PACKED = (".py", ".html", ".md", ".css")  # what the package is made of
LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same code makes the same script


def write(folder: Path, given: Mapping[str, str], environment: Mapping[str, str]) -> str:
    """Writes both files and returns the kernel's id."""
    settings = variables.elsewhere(
        given,
        "train.py",
        "Put it into Kaggle's secrets (Add-ons), or leave it out and fetch the data as a Kaggle dataset.",
        there="/kaggle/",
    )
    model = variables.check_model(settings.setdefault("MODEL", "cnn"))
    settings.setdefault("MAX_HOURS", HOURS)
    if not settings.get("OUTPUT", "s3://").startswith("s3://"):
        del settings["OUTPUT"]  # a directory of this machine; on Kaggle it is /kaggle/working
    folder.mkdir(parents=True, exist_ok=True)
    script = (HERE / "script.py").read_text()
    for name, value in (("SETTINGS", settings), ("NEEDED", requirements())):
        place = f"{name}: dict[str, str] = "
        script = script.replace(place + "{}", place + json.dumps(value, indent=4))
    script = script.replace('CODE = ""', 'CODE = """\n' + base64.encodebytes(packed()).decode() + '"""')
    (folder / "train.py").write_text(script)
    about = metadata(model, settings.get("DATASET", "cifar10"), user(environment), environment)
    (folder / "kernel-metadata.json").write_text(json.dumps(about, indent=2) + "\n")
    return str(about["id"])


def metadata(model: str, dataset: str, owner: str, environment: Mapping[str, str]) -> dict[str, object]:
    """`kernel-metadata.json`. Kaggle derives the id from the title, so the two must agree."""
    title = f"Image classification {model.replace('_', ' ')}"
    datasets = environment.get("KAGGLE_DATASETS", CIFAR10 if dataset == "cifar10" else "")
    return {
        "id": f"{owner}/{title.lower().replace(' ', '-')}",
        "title": title,
        "code_file": "train.py",
        "language": "python",
        "kernel_type": "script",
        "is_private": True,
        "enable_gpu": True,
        # Without it Kaggle gives a P100, for which its torch has no kernels. Read by the command line from 1.8.4 on; an
        # older one passes over it in silence, but refuses the --accelerator that is printed below.
        "machine_shape": machine_shape(environment),
        # Needed to install what Kaggle lacks and to fetch ImageNet weights; the account must be verified by phone.
        "enable_internet": environment.get("KAGGLE_INTERNET", "1") != "0",
        "dataset_sources": [name for name in re.split(r"[\s,]+", datasets) if name],
        "competition_sources": [],
        "kernel_sources": [],
        "model_sources": [],
    }


def machine_shape(environment: Mapping[str, str]) -> str:
    """The accelerator by Kaggle's name for it."""
    return environment.get("MACHINE_SHAPE") or "NvidiaTeslaT4"


def user(environment: Mapping[str, str]) -> str:
    if environment.get("KAGGLE_USERNAME"):
        return environment["KAGGLE_USERNAME"]
    try:
        return str(json.loads((Path.home() / ".kaggle" / "kaggle.json").read_text())["username"])
    except (OSError, ValueError, KeyError):
        raise variables.WrongSetting(
            "whose kernel is it? Set KAGGLE_USERNAME, or put your API token into ~/.kaggle/kaggle.json."
        ) from None


def requirements() -> dict[str, str]:
    """Module → requirement, at the locked version (where there are several, the one for the oldest Python)."""
    lock = (ROOT / "requirements.lock").read_text()
    locked = dict(reversed(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock, re.MULTILINE)))
    return {module: f"{package}=={locked[package]}" for module, package in NEEDED.items()}


def packed() -> bytes:
    """The package with its templates, its entrypoint and its commit as a zip, without bytecode."""
    package = (file for file in (ROOT / "job").rglob("*") if file.suffix in PACKED)
    files = [ROOT / "entrypoint.sh", *sorted(package)]
    entries = {str(file.relative_to(ROOT)): file.read_bytes() for file in files}
    if commit():
        entries["job/COMMIT"] = commit().encode()
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in entries.items():
            archive.writestr(zipfile.ZipInfo(name, LONG_AGO), data, zipfile.ZIP_DEFLATED)
    return content.getvalue()


def commit() -> str:
    """The checkout's commit for results.json; empty where there is none."""
    describe = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True).stdout
    except OSError:
        return ""


def main() -> None:
    folder = Path(sys.argv[1])
    kernel = write(folder, variables.given(), os.environ)
    print(f"wrote {folder}; start and fetch it with:")
    print(f"  kaggle kernels push -p {folder} --accelerator {machine_shape(os.environ)}")
    print(f"  kaggle kernels status {kernel}")
    print(f"  kaggle kernels output {kernel} -p outputs")


if __name__ == "__main__":
    main()
