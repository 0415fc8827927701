"""What file systems refuse: every call of a store with every errno, its exit code and its remedy, from one table."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from job.errors import Fault, NoRoom, TemporaryFault, as_fault, os_fault
from job.storage.local import LocalStore
from tests.conftest import ROOT, bare_environment

PERMANENT = {
    "EACCES",
    "EPERM",
    "EROFS",
    "ENOTDIR",
    "EISDIR",
    "ENAMETOOLONG",
    "ELOOP",
    "EINVAL",
    "ENODEV",
    "EFBIG",
    "ENOSYS",
    "EOPNOTSUPP",
}
# (call, errno) with another outcome: the store does without it, or it means that nothing is there.
CONVENIENCES = {"fchmod", "fsync of a directory"}
DONE_WITHOUT = {("link", "EPERM"), ("link", "ENOSYS"), ("link", "EOPNOTSUPP")}
NOT_THERE = {("open", "ENOTDIR"), ("read", "ENOTDIR"), ("unlink", "ENOTDIR")}


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The preloaded library, built here."""
    if shutil.which("cc") is None:
        pytest.skip("SKIPPED: no C compiler here, so no system call can be made to fail")
    library = tmp_path_factory.mktemp("shim") / "shim.so"
    source = ROOT / "tests" / "helpers" / "errno_shim.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    return library


@pytest.fixture(scope="session")
def table(shim: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    command = [sys.executable, "-m", "tests.helpers.errno_table", str(tmp_path_factory.mktemp("table"))]
    environment = bare_environment() | {"LD_PRELOAD": str(shim)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def expected(call: str, name: str) -> int:
    if call == "fchmod" or (call == "fsync of a directory" and name in PERMANENT):
        return 0
    if (call, name) in DONE_WITHOUT | NOT_THERE:
        return 0
    return 78 if name in PERMANENT else 75


def test_the_exit_code_of_every_call_and_errno(table: list[dict[str, Any]]) -> None:
    wrong = [
        (row["call"], row["errno"], row["exit_code"], row["remedy"])
        for row in table
        if row["exit_code"] != expected(row["call"], row["errno"])
    ]
    assert wrong == []
    counted = Counter(row["exit_code"] for row in table)
    assert counted[78] > 80
    assert counted[75] > 120


def test_what_is_refused_leaves_the_old_file_whole(table: list[dict[str, Any]]) -> None:
    for row in table:
        writes = row["call"] in ("create", "write", "fsync", "rename")
        assert row["kept"] == "1" or not (writes and row["exit_code"]), row


def test_every_fault_names_the_place_and_a_remedy(table: list[dict[str, Any]]) -> None:
    for row in table:
        if row["exit_code"]:
            assert os.strerror(getattr(errno, row["errno"])) in row["what"]
            assert row["remedy"].endswith((".", ")"))
            assert "{" not in row["remedy"]


@pytest.mark.parametrize(
    ("call", "name", "words"),
    [
        ("rename", "ENOSYS", "s3://bucket/prefix"),  # Mountpoint for S3
        ("rename", "EPERM", "s3://bucket/prefix"),
        ("unlink", "EPERM", "delete"),
        ("create", "EPERM", "that this user may write to"),
        ("create", "EROFS", "read-only"),
        ("create", "ENOSPC", "df -i"),
        ("create", "ENAMETOOLONG", "takes this name"),
        ("read", "ENOTCONN", "has dropped out"),
        ("fsync", "EIO", "dmesg"),
        ("write", "EDQUOT", "quota"),
        ("open", "EMFILE", "ulimit -n"),
    ],
)
def test_each_has_its_own_remedy(table: list[dict[str, Any]], call: str, name: str, words: str) -> None:
    (row,) = (row for row in table if (row["call"], row["errno"]) == (call, name))
    assert words in row["remedy"]


def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as an owner waits: a mount that comes back. A full disk and missing rights are told at once."""
    monkeypatch.setattr("job.storage.local.PAUSE", 0.01)
    store = LocalStore(tmp_path).guarded(lambda: None, 60.0)
    for number, left in ((errno.ENOTCONN, 3), (errno.EIO, 1), (errno.ENOSPC, 99), (errno.EACCES, 99)):
        tries = [left]

        def fails(*_: object, number: int = number, tries: list[int] = tries) -> None:
            tries[0] -= 1
            if tries[0] >= 0:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fails)
            if left < 99:
                store.put("a", b"1")
            else:
                with pytest.raises(Fault) as caught:
                    store.put("a", b"1")
                assert tries == [98]
                assert type(caught.value) is (NoRoom if number == errno.ENOSPC else Fault)


def test_a_dead_mount_where_nobody_expected_it_is_no_bug() -> None:
    fault = as_fault(OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN), "/mnt/data/a"))
    assert isinstance(fault, TemporaryFault)
    assert "/mnt/data/a" in fault.what
    assert as_fault(FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/mnt")) is None
    assert as_fault(KeyError("a bug")) is None
    unknown = os_fault(OSError(4711, "odd"), "cannot write /x", "OUTPUT")
    assert unknown.exit_code == 75


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("can't start new thread"), OSError(errno.ENOMEM, "x")])
def test_what_the_machine_refuses_is_no_bug(error: Exception) -> None:
    fault = as_fault(error)
    assert isinstance(fault, TemporaryFault)
    assert fault.remedy
