"""What many tests share: a job as a real subprocess, and tiny images."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import pty
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import TextIO
from unittest import mock

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded: threads beside other tests wait for each other

pytest_plugins = ["tests.helpers.folders", "tests.helpers.s3_fixtures", "tests.helpers.nobody"]

ROOT = Path(__file__).parent.parent
Job = Callable[..., "subprocess.CompletedProcess[str]"]

TINY = {
    "MODEL": "mlp",
    "DATASET": "synthetic",
    "DATA_LIMIT": "200",
    "TUNE_PERCENT": "50",
    "MAX_EVALS": "2",
    "TUNE_MAX_EPOCHS": "2",
    "DEVICE": "cpu",
    "PRECISION": "fp32",
}


def bare_environment() -> dict[str, str]:
    """This process's environment without what would set up a job or a store."""
    keep = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE", "LD_LIBRARY_PATH")
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}  # tests run side by side


def start_job(directory: Path, variables: Mapping[str, str], stderr: int | None = None) -> subprocess.Popen[str]:
    """The job in a process of its own, whose lines can be read while it runs."""
    return subprocess.Popen(
        [sys.executable, "-m", "job"],
        cwd=directory,
        env=bare_environment() | variables,
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
    )


def tells(line: str, event: str) -> bool:
    """Whether a line of the job's output is this event as JSON."""
    return line.startswith("{") and bool(json.loads(line)["event"] == event)


@pytest.fixture(scope="session", autouse=True)
def no_summary_of_this_shell() -> Iterator[None]:
    """Runs in this process add nothing to the page of the continuous integration that tests them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("GITHUB_STEP_SUMMARY", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def signals_are_heard() -> None:
    """By the processes of tests, too, where the tests themselves were started under nohup, or in a script with `&`."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def disturbed_start() -> Iterator[None]:
    """Where TEST_DISTURBANCE is set, every learner of this process starts from weights that are a rounding away."""
    if not os.environ.get("TEST_DISTURBANCE"):
        yield
        return
    from job.engine import learner
    from tests.helpers import rounding

    drawn = learner.new_model
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith(("job.", "tests.")) and getattr(module, "new_model", None) is drawn:
                patch.setattr(module, "new_model", lambda *given: rounding.disturbed(drawn(*given)))
        yield


def replace_file(run: Path, name: str, content: bytes) -> None:
    """Puts another content into a finished run, whose manifest then vouches for it."""
    (run / name).write_bytes(content)
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (run / "manifest.json").write_text(json.dumps(manifest))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder that `make` fills, once for all processes of a test run."""
    ours = factory.getbasetemp()
    home = (ours.parent if "PYTEST_XDIST_WORKER" in os.environ else ours) / f"shared-{name}"
    home.mkdir(exist_ok=True)
    with (home / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (home / ".made").exists():
            make(home)
            (home / ".made").touch()
    return home


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real finished run, `mlp` on drawn images. Copy it before you change anything."""

    def make(home: Path) -> None:
        done = run_here(home, **TINY, LEARNING_RATE="0.001", EPOCHS="2")
        assert done.returncode == 0, done.stdout + done.stderr

    (run,) = (made_once(tmp_path_factory, "run", make) / "outputs").iterdir()
    return run


@pytest.fixture(scope="session")
def twin(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, bytes], float]:
    """The files of an uninterrupted run of `chaos.SMALL`, and the seconds of its work: what killed ones must give."""
    from tests.helpers import chaos

    home = made_once(tmp_path_factory, "twin", chaos.local_twin)
    return chaos.directory_files(home / "out" / "run"), float((home / "seconds").read_text())


@pytest.fixture
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """MODE=check in this process says how long a run would take from two steps, not from a second's."""
    monkeypatch.setattr("job.preflight.timing.ENOUGH_SECONDS", 0.01)
    monkeypatch.setattr("job.preflight.timing.MOST_STEPS", 2)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """Runs `python -m job` in an empty directory with these variables and nothing else of this shell's."""

    def run(*arguments: str, timeout: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "job", *arguments],
            cwd=tmp_path,
            env=bare_environment() | variables,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


@contextmanager
def as_started(directory: Path, variables: Mapping[str, str], out: TextIO, err: TextIO) -> Iterator[None]:
    """This process as a new one would be: its directory, environment, output, log and count of threads."""
    import torch

    from job.console.logs import LOGGER

    warned, before, threads = logging.getLogger("py.warnings"), Path.cwd(), torch.get_num_threads()
    kept = [(log, log.handlers, log.level, log.propagate) for log in (LOGGER, warned)]
    os.chdir(directory)
    torch.set_num_threads(1)
    try:
        with (
            mock.patch.dict(os.environ, bare_environment() | variables, clear=True),
            warnings.catch_warnings(),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            yield
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
        logging.captureWarnings(False)
        for log, handlers, level, propagate in kept:
            log.handlers, log.level, log.propagate = handlers, level, propagate


def run_here(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python -m job` in this process: all of it but the start of an interpreter and of torch, which takes several
    times as long as the smallest run. For what needs no process of its own: no signals, no kills, no terminal.
    """
    from job.__main__ import main

    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        with as_started(directory, variables, out, err):
            code = main(list(arguments))
        said = [stream.seek(0) or stream.read() for stream in (out, err)]
    return subprocess.CompletedProcess(["job", *arguments], code, *said)


def on_a_terminal(directory: Path, **variables: str) -> tuple[int, bytes]:
    """`python -m job` in this process on a real pseudo-terminal: its exit code, and what the terminal got."""
    from job.__main__ import main

    master, slave = pty.openpty()
    shown: list[bytes] = []
    reader = threading.Thread(target=lambda: shown.extend(iter(partial(read_terminal, master), b"")))
    reader.start()
    with os.fdopen(slave, "w", closefd=True) as terminal, as_started(directory, variables, terminal, terminal):
        code = main([])
    reader.join()
    os.close(master)
    return code, b"".join(shown)


def read_terminal(master: int) -> bytes:
    """What was written to it by now; nothing when the other end is closed, for which Linux says EIO."""
    try:
        return os.read(master, 65536)
    except OSError:
        return b""


@pytest.fixture
def main(tmp_path: Path) -> Job:
    """The same as `job`, in this process (see `run_here`)."""
    return partial(run_here, tmp_path)


@pytest.fixture
def tiny(main: Job) -> Job:
    """The same with the smallest useful run as the default."""

    def run(**variables: str) -> subprocess.CompletedProcess[str]:
        return main(**(TINY | variables))

    return run
