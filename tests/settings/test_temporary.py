"""Without a temporary folder, or with a full one."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from job.errors import Fault, TemporaryFault
from job.settings import temporary
from job.settings.checked import Settings
from tests.conftest import ROOT, bare_environment


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine whose usual places do not exist."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_candidate_tempdir_list", lambda: [str(tmp_path / "none")])
    monkeypatch.setenv("TMPDIR", str(tmp_path / "none"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "none"))
    return tmp_path


def test_the_systems_own_is_taken_where_it_serves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    temporary.settle([tmp_path / "outputs"])
    assert tempfile.gettempdir() == str(tmp_path)
    assert not (tmp_path / "outputs").exists()


def test_else_one_below_the_users_folders(nowhere: Path) -> None:
    """The first that can be written; it goes with the process."""
    (nowhere / "file").write_text("no folder")
    temporary.settle([nowhere / "file", nowhere / "data"])
    (made,) = (nowhere / "data").iterdir()
    assert made.name.startswith(temporary.NAME)
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(made)
    assert Path(os.environ["MPLCONFIGDIR"]).is_relative_to(made)
    temporary.leave()
    assert not list((nowhere / "data").iterdir())


def test_nowhere_at_all(nowhere: Path) -> None:
    (nowhere / "file").write_text("no folder")
    with pytest.raises(Fault, match="no temporary folder") as caught:
        temporary.settle([nowhere / "file"])
    assert not isinstance(caught.value, TemporaryFault)
    assert "TMPDIR" in caught.value.remedy


def test_no_room_anywhere_passes(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**options: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(TemporaryFault, match="no room left"):
        temporary.settle([nowhere / "outputs"])


def test_buckets_hold_no_temporary_files() -> None:
    assert temporary.places_of(Settings(output="s3://bucket/runs", data_dir=Path("/data"))) == [Path("/data")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tmp", "output", "code", "told"),
    [
        ("-o ro", "{}/outputs", 0, "finished"),
        ("-o size=64k", "{}/outputs", 0, "finished"),
        ("-o ro", "s3://bucket/runs", 78, "there is no temporary folder that can be written"),
    ],
)
def test_a_job_on_such_a_machine(tmp_path: Path, tmp: str, output: str, code: int, told: str) -> None:
    """A mount namespace of its own: /tmp and /var/tmp are read-only or full, the working folder is read-only."""
    if os.getuid() != 0 or subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode != 0:
        pytest.skip("SKIPPED, NOT TESTED: mounts of one's own need root (unshare -m)")
    outside = Path(tempfile.mkdtemp(dir="/var/lib" if os.access("/var/lib", os.W_OK) else "/root"))
    script = f"""
        mount -t tmpfs {tmp} none /tmp && {{ [ -w /tmp ] && head -c 100000 /dev/zero >/tmp/fill; true; }} 2>/dev/null
        mount -t tmpfs -o ro none /var/tmp; mount --bind -o ro {ROOT} /mnt 2>/dev/null; cd /proc
        exec "$0" -m job
    """
    small = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "200", "LEARNING_RATE": "0.001", "EPOCHS": "1"}
    places = {"OUTPUT": output.format(outside), "DATA_DIR": "/proc/none", "DEVICE": "cpu", "HOME": "/proc"}
    environment = bare_environment() | small | places
    environment.pop("TMPDIR", None)
    python = ROOT / ".venv" / "bin" / "python"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, str(python)], env=environment, capture_output=True, text=True
    )
    try:
        assert done.returncode == code, done.stdout + done.stderr
        assert told in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
        assert not list(outside.rglob(f"{temporary.NAME}*"))
    finally:
        subprocess.run(["rm", "-rf", str(outside)], check=True)
