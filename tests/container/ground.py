"""What the checks stand on: podman made usable, a base image, and the way to a package index."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from tests.container.shell import IMAGE, Skipped, sh

DEBIAN = os.environ.get("CONTAINER_DEBIAN") or "bookworm"  # trixie brings Python 3.13
BASE = f"localhost/job-check-base:{DEBIAN}"
FREE_GB = 6 if os.environ.get("TORCH") == "cpu" else 22  # base, packages twice (built and copied), uv's cache

# For a host that refuses raised limits and network namespaces: seen on cgroup v1 without a Docker engine.
CAREFUL = """\
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4000:4000"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


def prepare(work: Path) -> str:
    """Makes podman usable and returns the base image's name. Raises Skipped where that cannot be."""
    base = os.environ.get("CONTAINER_BASE", "")
    programs = ["podman"] if base else ["podman", "runc", "debootstrap"]
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        if os.getuid() != 0 or shutil.which("apt-get") is None:
            raise Skipped(f"{', '.join(missing)} missing, and this is not root on a Debian")
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        again = ("-o", "Acquire::Retries=3")
        sh("apt-get", *again, "update", check=False)
        installed = sh("apt-get", *again, "install", "-y", "--no-install-recommends", *missing, check=False, env=quiet)
        if installed.returncode != 0:
            raise Skipped(f"{', '.join(missing)} could not be installed: {installed.stderr.strip()[-300:]}")
    if not base and os.getuid() != 0:
        raise Skipped("debootstrap needs root (or name a base image in CONTAINER_BASE)")
    storage = Path(sh("podman", "info", "--format", "{{.Store.GraphRoot}}").stdout.strip())
    storage.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(storage).free / 1e9
    if free < FREE_GB:
        raise Skipped(f"{free:.0f} GB free in {storage}, {FREE_GB} are needed")
    if not base:
        base = BASE
        if sh("podman", "image", "exists", BASE, check=False).returncode != 0:
            debootstrap(work / "base")
    try_to_run(base, work)
    return base


def debootstrap(folder: Path) -> None:
    started = time.monotonic()
    include = "--include=ca-certificates,python3,python3-venv,python3-pip"
    made = sh("debootstrap", "--variant=minbase", include, DEBIAN, folder, check=False)
    if made.returncode != 0:
        raise Skipped(f"debootstrap failed: {made.stdout.strip()[-300:]}")
    with subprocess.Popen(["tar", "-C", str(folder), "-c", "."], stdout=subprocess.PIPE) as tar:
        sh("podman", "import", "-", BASE, stdin=tar.stdout)
    shutil.rmtree(folder)
    print(f"base made with debootstrap in {time.monotonic() - started:.0f} s", flush=True)


def try_to_run(base: str, work: Path) -> None:
    """One trivial container, as podman is set up, else with the careful settings."""
    hello = ("podman", "run", "--rm", base, "true")
    plain = sh(*hello, check=False)
    if plain.returncode == 0:
        return
    careful = work / "containers.conf"
    careful.write_text(CAREFUL)
    os.environ["CONTAINERS_CONF"] = str(careful)
    again = sh(*hello, check=False)
    if again.returncode != 0:
        raise Skipped(f"podman runs no container here: {plain.stderr.strip()[-300:]} / {again.stderr.strip()[-300:]}")
    print("podman needs the careful settings here (limits, network and cgroups of the host)", flush=True)


def host_access() -> list[str]:
    """What lets the build reach a package index as this host does; it is the host's, not the Dockerfile's."""
    options = ["--network", "host"]
    config = [Path("/etc/pip.conf"), *(Path.home() / name for name in (".config/pip/pip.conf", ".pip/pip.conf"))]
    for file in config:
        if file.is_file():
            options += ["-v", f"{file}:/etc/pip.conf:ro"]
            break
    certificates = os.environ.get("SSL_CERT_FILE")
    if certificates:
        options += ["-v", "/etc/ssl/certs:/etc/ssl/certs:ro", "--env", f"SSL_CERT_FILE={certificates}"]
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "PIP_INDEX_URL"):
        if os.environ.get(name):
            options += ["--env", f"{name}={os.environ[name]}"]
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    if cache.is_dir() and os.getuid() == 0:
        options += ["-v", f"{cache}:/root/.cache/uv"]  # in the place of the build's own cache: fetched once, kept once
    return options


def images() -> set[str]:
    """The ids of all images and layers that podman has."""
    return set(sh("podman", "images", "--all", "--quiet", "--no-trunc", check=False).stdout.split())


def give_back(before: set[str]) -> None:
    """Removes what was not there before: containers that a check left, the image, and the layers of its build."""
    left = sh("podman", "ps", "--all", "--quiet", "--filter", f"ancestor={IMAGE}", check=False).stdout.split()
    if left:
        sh("podman", "rm", "--force", "--time", "0", *left, check=False)
    made = images() - before
    if made:
        sh("podman", "rmi", "--force", *made, check=False)
