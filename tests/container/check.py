"""Builds the image and runs it for real: `make test-container`.

Without a base image (CONTAINER_BASE) it makes one of CONTAINER_DEBIAN with debootstrap; podman, runc and debootstrap
are installed where they are missing and this is root. Where containers cannot run, it says SKIPPED and counts nothing
as passed.
Afterwards every image and layer that it made is removed; KEEP_IMAGE=1 keeps them, and so the next build's cache.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).parent.parent.parent
IMAGE = "localhost/job-check:latest"
DEBIAN = os.environ.get("CONTAINER_DEBIAN") or "bookworm"  # trixie brings Python 3.13
BASE = f"localhost/job-check-base:{DEBIAN}"
FREE_GB = 6 if os.environ.get("TORCH") == "cpu" else 22  # base, packages twice (built and copied), uv's cache
STOP_SECONDS = 10.0
# So that a command that hangs ends as a failure: for making the ground, for the build, for another check, for all.
GROUND, BUILD, CHECK, ALL = 10 * 60, 20 * 60, 8 * 60, 40 * 60

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

# As strict as the image promises to stand: any user, nothing writable but three folders, no network, no privileges.
STRICT = (
    *("--user", "12345", "--read-only", "--network", "none", "--cap-drop", "ALL"),
    *("--security-opt", "no-new-privileges", "--tmpfs", "/tmp:rw,mode=1777"),
)
# One thread: a machine shared with others lets two of them wait for each other.
SMALL = {"DATASET": "synthetic", "DATA_LIMIT": "3000", "MAX_EVALS": "4", "TUNE_MAX_EPOCHS": "6", "OMP_NUM_THREADS": "1"}
TINY = {"DATASET": "synthetic", "DATA_LIMIT": "200", "LEARNING_RATE": "0.001", "EPOCHS": "1", "DEVICE": "cpu"}
FILES = {"results.txt", "results.json", "training_curves.png", "weights.pt", "history.csv", "trials.csv", "tuning.png"}
# What may differ between a run in one go and one in several: its clock, and what tells of its attempts.
OF_THE_ATTEMPT = re.compile(r"second|duration|time|date|started|finished|resume|attempt|interrupt|host|reason")

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


class Skipped(Exception):
    """Containers cannot run here; the text says why."""


def sh(
    *command: str | Path, check: bool = True, given: str | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """What the command said, with `given` as its input. Interrupted (see `within`), it ends all that it started."""
    line = [str(part) for part in command]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    if given is not None:
        options["stdin"] = subprocess.PIPE
    with subprocess.Popen(line, text=True, cwd=ROOT, start_new_session=True, **options) as process:
        try:
            said, complained = process.communicate(given)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    done = subprocess.CompletedProcess(line, process.returncode, said or "", complained or "")
    if check and done.returncode != 0:
        what = f"{command[0]} {command[1]} … exited {done.returncode}"
        raise AssertionError(f"{what}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError where what is inside takes longer."""

    def ring(signum: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class Checks:
    """Runs each check, says how it went and how long it took, and counts."""

    def __init__(self) -> None:
        self.passed = self.failed = 0
        self.ends = time.monotonic() + ALL

    def __call__(self, name: str, check: Callable[[], object], seconds: float = CHECK) -> None:
        started = time.monotonic()
        try:
            with within(min(seconds, self.ends - started)):
                said = check()
        except Exception as error:  # a failed check must not keep the others from running
            self.failed += 1
            print(f"FAILED   {name}\n{error}", flush=True)
        else:
            self.passed += 1
            took = time.monotonic() - started
            print(f"ok       {name} ({took:.1f} s){f': {said}' if said else ''}", flush=True)


# ---- the ground ----


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


# ---- what is checked ----


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


class Place:
    """Folders for a container's /outputs and /data, writable for everyone."""

    def __init__(self, work: Path, name: str) -> None:
        self.outputs, self.data = work / name / "outputs", work / name / "data"
        for folder in (self.outputs, self.data):
            folder.mkdir(parents=True)
            folder.chmod(0o777)

    def options(self, settings: dict[str, str]) -> list[str]:
        values = [f"--env={name}={value}" for name, value in settings.items()]
        return ["-v", f"{self.outputs}:/outputs", "-v", f"{self.data}:/data", *values]

    def run(self, settings: dict[str, str], *further: str, code: int = 0) -> str:
        """What a container with these settings prints. Its exit code must be `code`."""
        done = sh("podman", "run", "--rm", *STRICT, *self.options(settings), *further, IMAGE, check=False)
        said = f"{done.stdout[-3000:]}{done.stderr[-2000:]}"
        assert done.returncode == code, f"exit {done.returncode} instead of {code}:\n{said}"
        return done.stdout

    def finished_run(self) -> Path:
        (manifest,) = self.outputs.glob("*/manifest.json")
        return manifest.parent


def outputs_are_whole(folder: Path, names: set[str] = FILES) -> str:
    manifest = json.loads((folder / "manifest.json").read_text())
    assert names <= set(manifest["files"]), set(manifest["files"])
    for name, about in manifest["files"].items():
        content = (folder / name).read_bytes()
        assert len(content) == about["size"], name
        assert hashlib.sha256(content).hexdigest() == about["sha256"], name
        if name.endswith(".png"):
            assert content.startswith(b"\x89PNG\r\n\x1a\n"), name
    results = json.loads((folder / "results.json").read_text())
    text = (folder / "results.txt").read_text()
    assert f"Test accuracy: {results['test']['accuracy_percent']:.2f}%" in text, text
    return f"test accuracy {results['test']['accuracy_percent']:.2f} %"


def whole_run(place: Place) -> str:
    log = place.run(SMALL)
    assert log.startswith("platform: none, OUTPUT=/outputs; threads: "), log[:200]
    said = outputs_are_whole(place.finished_run())
    owners = {file.stat().st_uid for file in place.finished_run().iterdir()}
    assert owners == {12345} or os.getuid() != 0, owners
    return said


def finished_already(place: Place) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in place.finished_run().iterdir()}
    log = place.run(SMALL)
    assert "finished already" in log, log
    after = {file.name: file.stat().st_mtime_ns for file in place.finished_run().iterdir()}
    assert before == after, "files were written again"


def stop_when(place: Place, line: str) -> str:
    """Starts the run, stops it once its log has `line`, and says how long the stop took."""
    name = "job-check-stop"
    sh("podman", "rm", "-f", name, check=False)
    sh("podman", "run", "-d", "--name", name, *STRICT, *place.options(SMALL), IMAGE)
    try:
        deadline = time.monotonic() + 120
        while re.search(line, log := sh("podman", "logs", name).stdout) is None:
            running = sh("podman", "inspect", "--format", "{{.State.Running}}", name).stdout.strip()
            assert running == "true", f"ended before {line!r}:\n{log}"
            assert time.monotonic() < deadline, f"no {line!r} within 120 s:\n{log}"
            time.sleep(0.1)
        assert sh("podman", "exec", name, "cat", "/proc/1/comm").stdout.strip() == "tini", "PID 1 is not tini"
        started = time.monotonic()
        sh("podman", "stop", "--time", "30", name)
        took = time.monotonic() - started
        code = sh("podman", "inspect", "--format", "{{.State.ExitCode}}", name).stdout.strip()
        log = sh("podman", "logs", name).stdout
    finally:
        sh("podman", "rm", "-f", name, check=False)
    assert code == "143", f"exit {code} instead of 143:\n{log}"
    assert took < STOP_SECONDS, f"the stop took {took:.1f} s"
    assert not list(place.outputs.glob("*/manifest.json")), "a stopped run has a manifest"
    return f"exit 143 after {took:.2f} s"


def stopped_run_goes_on(place: Place, whole: Place) -> str:
    log = place.run(SMALL)
    one, other = place.finished_run(), whole.finished_run()
    outputs_are_whole(one)
    assert one.name == other.name
    assert (one / "weights.pt").read_bytes() == (other / "weights.pt").read_bytes(), "weights.pt differs"
    left, right = (comparable(json.loads((run / "results.json").read_text())) for run in (one, other))
    different = [f"{key}: {left[key]} / {right.get(key)}" for key in left if left[key] != right.get(key)]
    assert left == right, f"results.json differs in {different}"
    for name in ("history.csv", "trials.csv"):
        assert comparable_rows(one / name) == comparable_rows(other / name), f"{name} differs"
    resumed = re.search(r"^.*(resum|going on after).*$", log, re.MULTILINE)
    how = resumed[0][:120] if resumed else "it started over: its log says nothing of resuming"
    return f"same weights and results; {how}"


def comparable(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if not OF_THE_ATTEMPT.search(key)}
    return [comparable(item) for item in value] if isinstance(value, list) else value


def comparable_rows(file: Path) -> list[dict[str, str]]:
    return [comparable(row) for row in csv.DictReader(file.read_text().splitlines())]


def wrong_setting(place: Place) -> None:
    log = place.run({"MODEL": "resnet19", "LOG_FORMAT": "json"}, code=78)
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["event"] for event in events] == ["platform", "fault"], log


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


def main() -> int:
    check = Checks()
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(143))  # by way of `finally`
    work = Path(tempfile.mkdtemp(prefix="job-check-"))
    before = images() if shutil.which("podman") else set()
    try:
        try:
            with within(GROUND):
                base = prepare(work)
        except (AssertionError, TimeoutError) as error:
            raise Skipped(error) from error
        commit = commit_here()
        check("make build", lambda: build(base), BUILD)
        if not check.failed:
            whole, stopped = Place(work, "whole"), Place(work, "stopped")
            check("size by layer", sizes)
            check("user, entrypoint, labels, variables", lambda: inspect(commit))
            check("nothing left over from the build", nothing_left_over)
            check("no library misses one that was removed", libraries_complete)
            check("--help", lambda: in_image("/app/entrypoint.sh --help >/dev/null"))
            check("a run: any user, read-only, no network, no capabilities", lambda: whole_run(whole))
            check("the same again finds it finished", lambda: finished_already(whole))
            check("podman stop in the search", lambda: stop_when(stopped, r"tune trial=1/4 .*best_epoch"))
            check("podman stop in the training", lambda: stop_when(stopped, r"train epoch=1 "))
            check("the stopped run ends like the uninterrupted one", lambda: stopped_run_goes_on(stopped, whole))
            check("a wrong setting exits 78, in JSON", lambda: wrong_setting(Place(work, "wrong")))
            check("an indexed job with one CPU", lambda: indexed_job(Place(work, "indexed")))
            check("SageMaker's folders and failure reason", lambda: sagemaker(Place(work, "sagemaker"), work))
            check("the Kaggle script in Kaggle's tree", lambda: kaggle(work))
            check("make docker-run", lambda: make_docker_run(work))
            check("make run-all RUNNER=docker", lambda: make_run_all(work))
    except Skipped as reason:
        print(f"SKIPPED  the container tests did NOT run: {reason}")
        print(f"test-container: {check.passed} passed, {check.failed} failed, 1 skipped")
        return 1 if check.failed else 0
    finally:
        if os.environ.get("KEEP_IMAGE") != "1" and shutil.which("podman"):
            with within(CHECK):
                give_back(before)
        shutil.rmtree(work, ignore_errors=True)
    print(f"test-container: {check.passed} passed, {check.failed} failed, 0 skipped")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
