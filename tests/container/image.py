"""The image as it was built: who it runs as, how large it is, what is in it and what is not."""

from __future__ import annotations

import json
import re
import subprocess
import time

from tests.container.ground import host_access
from tests.container.shell import IMAGE, ROOT, sh

# Libraries that the wheels link to and never brought: of the driver, of MPI and of network cards.
NOT_OURS = {"libcuda.so.1", "libnvidia-ml.so.1", "libmpi.so.40", "liboshmem.so.40", "libpmix.so.2"}
NOT_OURS |= {"libmlx5.so.1", "librdmacm.so.1", "libibverbs.so.1"}
MISSING_LIBRARIES = """
import subprocess, sysconfig
from pathlib import Path
files = sorted(Path(sysconfig.get_paths()["purelib"]).rglob("*.so*"))
for file in files:
    for line in subprocess.run(["ldd", str(file)], capture_output=True, text=True).stdout.splitlines():
        name = line.split()[0]
        if "not found" in line and not any(other.name == name for other in files):  # those are loaded before it
            print(name, file.name)
"""


def build(base: str) -> str:
    started = time.monotonic()
    log = ROOT / "build" / "container-build.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as file:
        make = ["make", "build", "ENGINE=podman", f"IMAGE={IMAGE}", f"BASE_IMAGE={base}"]
        make += [f"BUILD_ARGS={' '.join(host_access())}"]
        done = sh(*make, check=False, stdout=file, stderr=subprocess.STDOUT)
    assert done.returncode == 0, f"exit {done.returncode}; the end of {log}:\n{log.read_text()[-3000:]}"
    return f"built in {time.monotonic() - started:.0f} s"


def commit_here() -> str:
    return sh("git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*", check=False).stdout.strip()


def inspect(commit: str) -> str:
    about = json.loads(sh("podman", "image", "inspect", IMAGE).stdout)[0]
    config = about["Config"]
    assert config["User"] == "10001:10001", config["User"]
    assert config["Entrypoint"] == ["/usr/bin/tini", "--", "/app/entrypoint.sh"], config["Entrypoint"]
    assert not about.get("Healthcheck"), "there is a HEALTHCHECK"
    labels = config["Labels"]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert labels["org.opencontainers.image.version"] == version[1], labels
    assert labels["org.opencontainers.image.revision"] == commit, labels
    environment = dict(pair.split("=", 1) for pair in config["Env"])
    for name in ("NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "OUTPUT", "DATA_DIR"):
        assert environment.get(name), f"{name} is not set"
    return f"version {version[1]}, commit {commit[:12]}"


def sizes() -> str:
    """The size table, by layer."""
    history = json.loads(sh("podman", "history", "--format", "json", IMAGE).stdout)
    layers = [(layer["size"], layer["CreatedBy"]) for layer in history]
    for size, what in reversed(layers):
        if size > 100_000:
            print(f"         {size / 1e6:8.1f} MB  {what[:90]}")
    return f"{sum(size for size, _ in layers) / 1e9:.2f} GB in all"


def in_image(command: str, *options: str) -> str:
    return sh("podman", "run", "--rm", "--network", "none", *options, "--entrypoint", "sh", IMAGE, "-c", command).stdout


def nothing_left_over() -> None:
    found = in_image(
        "ls -d /opt/uv /build /layers /root/.cache/* /opt/venv/bin/pip* /opt/venv/bin/uv "
        "/opt/venv/lib/python3*/site-packages/triton /var/lib/apt/lists/*_* 2>/dev/null; "
        "command -v gcc cc make git || true"
    )
    assert not found.strip(), f"left over in the image:\n{found}"
    for place in ("/app/job", "/opt/venv/lib/python3*/site-packages/torch"):
        assert in_image(f"ls {place}/__pycache__/*.pyc"), f"the bytecode of {place} is not compiled"


def libraries_complete() -> str:
    """Nothing that was removed is linked to by anything that was kept."""
    python = ("podman", "run", "--rm", "-i", "--network", "none", "--entrypoint", "python", IMAGE, "-")
    done = sh(*python, given=MISSING_LIBRARIES)
    missing = {tuple(line.split()) for line in done.stdout.splitlines()}
    unexpected = sorted(pair for pair in missing if pair[0] not in NOT_OURS and "quadmath" not in pair[0])
    assert not unexpected, f"library, needed by: {unexpected}"
    return f"{len(missing)} links, all to a driver or to cluster software, are open"
