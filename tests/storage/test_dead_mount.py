"""A real FUSE mount as OUTPUT whose server dies in the middle of a run, and comes back."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import start_job, tells
from tests.helpers import chaos

SERVER = shutil.which("fuse-overlayfs")


@contextmanager
def mounted(place: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`place/mount`, whose files lie in `place/upper`; unmounted at the end, whether its server lives or not."""
    folders = {name: place / name for name in ("lower", "upper", "work", "mount")}
    for folder in folders.values():
        folder.mkdir(exist_ok=True)
    options = ",".join(f"{name}dir={folders[name]}" for name in ("lower", "upper", "work"))
    server = subprocess.Popen([SERVER or "", "-f", "-o", options, folders["mount"]])
    try:
        deadline = time.monotonic() + 60
        while not os.path.ismount(folders["mount"]):
            assert server.poll() is None, "it cannot be mounted"
            assert time.monotonic() < deadline, "it is not mounted in time"
            time.sleep(0.05)
        yield server
    finally:
        subprocess.run(["umount", "-l", folders["mount"]], check=True)
        server.kill()
        server.wait()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_outlives_its_mount(twin: tuple[dict[str, bytes], float], tmp_path: Path) -> None:
    """Every access says ENOTCONN until it is mounted again: warnings, and the very bytes of an undisturbed run."""
    if SERVER is None or os.geteuid() != 0 or not os.access("/dev/fuse", os.W_OK):
        pytest.skip("NOT TESTED: it takes root, /dev/fuse and fuse-overlayfs")
    output = tmp_path / "mount" / "out"
    with mounted(tmp_path) as server:
        job = start_job(tmp_path, {**chaos.SMALL, "OUTPUT": str(output)}, subprocess.STDOUT)
        assert job.stdout is not None
        said = ""
        for line in job.stdout:
            said += line
            if tells(line, "epoch"):
                break
        server.kill()
        server.wait()
        with pytest.raises(OSError, match="not connected"):
            (output / "probe").touch()  # what is known of a name is still told, without asking the server
        time.sleep(8)
    with mounted(tmp_path):
        said += job.stdout.read()
        assert job.wait(60) == 0, said
        files = chaos.directory_files(output / "run")
    assert "Traceback" not in said
    mine, theirs = chaos.comparable(files), chaos.comparable(twin[0])
    assert [name for name in theirs if mine.get(name) != theirs[name]] == []
    assert not [name for name in files if name.startswith("checkpoint/") or name.endswith(".part")]
