"""CIFAR-10 that lies nearly where it should."""

from __future__ import annotations

from pathlib import Path

import pytest

from job.data import cifar10, misplaced
from job.errors import Fault
from tests.conftest import Job

NEARLY = ("cifar10 is the folder", "nested", "nested archive", "archive", "another file")


def lay(directory: Path, *names: str) -> None:
    directory.mkdir(parents=True)
    for name in names or cifar10.FILES:
        (directory / name).write_bytes(b"x")


def nearly(home: Path, how: str) -> tuple[Path, str]:
    """DATA_DIR, and what the message must name."""
    if how == "cifar10 is the folder":
        lay(home / cifar10.FOLDER)
        return home / cifar10.FOLDER, f"Set DATA_DIR={home}."
    if how == "nested":
        lay(home / cifar10.FOLDER / cifar10.FOLDER)
        return home, f"Set DATA_DIR={home / cifar10.FOLDER}."
    if how == "nested archive":
        lay(home / "downloads" / "cifar", cifar10.ARCHIVE)
        return home, f"Set DATA_DIR={home / 'downloads' / 'cifar'}."
    if how == "archive":
        lay(home, cifar10.ARCHIVE)
        return home / cifar10.ARCHIVE, f"Set DATA_DIR={home}."
    lay(home, "notes.txt")
    return home / "notes.txt", "is a file"


@pytest.mark.parametrize("how", NEARLY)
def test_it_is_told_where_it_lies(tmp_path: Path, how: str) -> None:
    directory, said = nearly(tmp_path / "home", how)
    with pytest.raises(Fault) as caught:
        misplaced.check(directory, cifar10.ARCHIVE, cifar10.FOLDER, cifar10.FILES)
    assert said in str(caught.value)
    assert caught.value.exit_code == 78


def test_what_is_not_there_is_fetched(tmp_path: Path) -> None:
    misplaced.check(tmp_path / "none", cifar10.ARCHIVE, cifar10.FOLDER, cifar10.FILES)
    lay(tmp_path / "some" / "folder", "a.png")
    misplaced.check(tmp_path / "some", cifar10.ARCHIVE, cifar10.FOLDER, cifar10.FILES)


def test_three_of_five_files(tmp_path: Path, main: Job) -> None:
    """In a run and in MODE=check: what is missing is named, beside what fetching it met."""
    lay(
        tmp_path / "data" / cifar10.FOLDER,
        *sorted(set(cifar10.FILES) - {"data_batch_4", "data_batch_5"}),
    )
    for mode in ("run", "check"):
        done = main(DATA_DIR="data", DATA_URL="file:///nowhere/x.tar.gz", MODE=mode, DEVICE="cpu", MODEL="mlp")
        assert done.returncode == 78, done.stdout
        assert "cifar-10-batches-py lacks data_batch_4, data_batch_5" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr


def test_the_job_tells_it_before_it_fetches(tmp_path: Path, main: Job) -> None:
    lay(tmp_path / "data" / cifar10.FOLDER / cifar10.FOLDER)
    for mode in ("run", "check"):
        done = main(DATA_DIR="data", DATA_URL="http://127.0.0.1:9/x.tar.gz", MODE=mode, DEVICE="cpu", MODEL="mlp")
        assert done.returncode == 78, done.stdout
        assert f"Set DATA_DIR=data/{cifar10.FOLDER}." in done.stdout
