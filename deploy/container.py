"""Runs the image for one model with the variables that are set, as this user, with nothing writable that need not be.

python -m deploy.container [--engine docker|podman] [--gpus auto|all|none|0,1] IMAGE [-- FURTHER ENGINE ARGUMENTS]
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy import variables

CREDENTIALS = ("AWS_", "MLFLOW_TRACKING_")
PLACES = ("_FILE", "_BUNDLE")  # AWS variables that name a file of this machine: no use inside a container


def gpus_here() -> list[str]:
    """The numbers of the NVIDIA GPUs that may be used, as CUDA_VISIBLE_DEVICES says where it is set."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu and gpu != "-1"]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = found.stdout.splitlines() if found.returncode == 0 else []
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in lines))]


def gpu_arguments(engine: str, gpus: str) -> list[str]:
    """How the engine is told which GPUs: Docker by its own option, podman by the Container Device Interface."""
    if gpus == "none":
        return []
    if engine == "podman":
        return [f"--device=nvidia.com/gpu={gpu}" for gpu in gpus.split(",")]
    return ["--gpus", "all" if gpus == "all" else f'"device={gpus}"']


def mounts(settings: Mapping[str, str], home: Path) -> tuple[list[str], dict[str, str]]:
    """The volumes for what lies on this machine, and the variables as they are to be inside the container."""
    inside = dict(settings)
    volumes: list[str] = []
    output = inside.pop("OUTPUT", "outputs")
    if output.startswith("s3://"):
        inside["OUTPUT"] = output
        if (home / ".aws").is_dir():
            volumes += ["-v", f"{home / '.aws'}:/aws:ro"]
            inside |= {"AWS_SHARED_CREDENTIALS_FILE": "/aws/credentials", "AWS_CONFIG_FILE": "/aws/config"}
    else:
        volumes += ["-v", f"{made(output)}:/outputs"]
    volumes += ["-v", f"{made(inside.pop('DATA_DIR', 'data'))}:/data"]
    authorities = os.environ.get("AWS_CA_BUNDLE", "")
    if authorities and Path(authorities).is_file():
        inside["AWS_CA_BUNDLE"] = "/aws-ca.pem"
        volumes += ["-v", f"{Path(authorities).absolute()}:/aws-ca.pem:ro"]
    weights = inside.get("PRETRAINED_WEIGHTS", "")
    if weights and Path(weights).is_file():
        inside["PRETRAINED_WEIGHTS"] = f"/weights/{Path(weights).name}"
        volumes += ["-v", f"{Path(weights).absolute()}:/weights/{Path(weights).name}:ro"]
    images = inside.get("INPUT", "")
    if images and Path(images).exists():
        inside["INPUT"] = f"/input/{Path(images).absolute().name}"
        volumes += ["-v", f"{Path(images).absolute()}:{inside['INPUT']}:ro"]
    return volumes, inside


def made(directory: str) -> Path:
    """The directory as an absolute path. It is made here, since an engine would make it as root."""
    path = Path(directory).expanduser().absolute()
    path.mkdir(parents=True, exist_ok=True)
    return path


def command(
    engine: str,
    image: str,
    gpus: str,
    settings: Mapping[str, str],
    further: Sequence[str] = (),
    terminal: bool = False,
) -> tuple[list[str], dict[str, str]]:
    """The whole command line, and the environment to start it in: there alone stand the values of the variables, which
    may hold passwords. What comes in `further` stands last and so has the last word.

    `terminal` hands the terminal over, for the progress bar and Ctrl-C.
    """
    if gpus == "auto":
        gpus = "all" if gpus_here() else "none"
    volumes, inside = mounts(settings, Path.home())
    credentials = [name for name in sorted(os.environ) if name.startswith(CREDENTIALS) and not name.endswith(PLACES)]
    line = [
        *(engine, "run", "--rm"),
        *(("-it",) if terminal else ()),
        *gpu_arguments(engine, gpus),
        *("--user", f"{os.getuid()}:{os.getgid()}"),
        *(("--userns", "keep-id") if engine == "podman" and os.getuid() else ()),
        *("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
        *volumes,
        *(f"--env={name}" for name in dict.fromkeys([*credentials, *inside])),  # by name: every user sees arguments
        *further,
        image,
    ]
    return line, {**os.environ, **inside}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="docker", choices=["docker", "podman"])
    parser.add_argument("--gpus", default="auto")
    parser.add_argument("image")
    parser.add_argument("further", nargs="*")
    wanted = parser.parse_args()
    settings = variables.given()
    variables.check_model(settings.get("MODEL", "cnn"))
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    line, environment = command(wanted.engine, wanted.image, wanted.gpus, settings, wanted.further, terminal)
    print(shlex.join(line), file=sys.stderr, flush=True)
    try:
        os.execvpe(line[0], line, environment)
    except FileNotFoundError:
        raise variables.WrongSetting(f"{line[0]} is not installed; set ENGINE=docker or ENGINE=podman.") from None


if __name__ == "__main__":
    main()
