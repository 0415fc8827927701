"""What every store promises, over a directory, S3 and S3 over TLS; then what only a directory can be asked."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from job import storage
from job.errors import Fault, TemporaryFault
from job.storage import ArtifactStore, files, s3
from job.storage.local import LocalStore
from tests.conftest import ROOT, bare_environment

MIB = 1 << 20
QUICK = s3.Limits(connect=2, read=5, pause=0.05, first=2, patience=5, settle=0.2, part=5 * MIB)
PATIENT = s3.Limits(settle=4.0)  # for races, which need the whole time that a loaded machine takes for a write
Open = Callable[..., ArtifactStore]


@pytest.fixture(params=["local", "s3", pytest.param("s3 over TLS", marks=pytest.mark.slow)])
def open_here(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens a run's store below one and the same place."""
    if request.param == "local":
        return lambda run_name="run", limits=QUICK: LocalStore(tmp_path / "some" / "prefix" / run_name)
    request.getfixturevalue("s3_environment" if request.param == "s3" else "s3_tls_environment")
    output = f"s3://{request.getfixturevalue('bucket')}/some/prefix"
    return lambda run_name="run", limits=QUICK: s3.open_store(output, run_name, limits)


@pytest.fixture
def store(open_here: Open) -> ArtifactStore:
    return open_here()


@pytest.fixture
def patient(open_here: Open) -> ArtifactStore:
    """With the whole time to settle in which a loaded machine answers: what is answered later counts as lost."""
    return open_here(limits=PATIENT)


@pytest.mark.parametrize("size", [0, 1, 300_000, 11 * MIB], ids=["empty", "a byte", "a picture", "three parts"])
def test_what_was_put_comes_back(store: ArtifactStore, size: int) -> None:
    content = random.Random(size).randbytes(size)
    store.put("weights.pt", content)
    assert store.get("weights.pt") == content


def test_what_is_not_there_is_none(store: ArtifactStore) -> None:
    assert store.get("nothing") is None
    assert store.get_versioned("no/such/folder") is None
    assert store.list() == []
    store.delete("nothing")
    store.delete("no/such/folder")


def test_put_replaces_and_delete_removes(store: ArtifactStore) -> None:
    store.put("a", b"first, and longer")
    store.put("a", b"second")
    assert store.get("a") == b"second"
    store.delete("a")
    assert store.get("a") is None
    assert store.list() == []


def test_the_place_of_all_runs_lists_their_files(open_here: Open) -> None:
    open_here("one").put("manifest.json", b"1")
    open_here("two").put("manifest.json", b"2")
    everything = open_here("")
    assert everything.list() == ["one/manifest.json", "two/manifest.json"]
    assert everything.get("two/manifest.json") == b"2"
    everything.put("summary.txt", b"3")
    assert open_here("one").list() == ["manifest.json"], "and a run sees no more than its own"
    assert not everything.uri.endswith("/")


def test_a_bucket_without_a_prefix_is_a_place_too(bucket: str, s3_environment: dict[str, str]) -> None:
    storage.open_store(f"s3://{bucket}", "run").put("manifest.json", b"1")
    everything = storage.open_store(f"s3://{bucket}")
    assert everything.list() == ["run/manifest.json"]
    assert everything.get("run/manifest.json") == b"1"
    assert everything.uri == f"s3://{bucket}"


def test_list_is_sorted_and_by_prefix(store: ArtifactStore) -> None:
    names = ["trials/2.json", "trials/10.json", "b c+d%20é.txt", "a", "trials.csv"]
    for name in names:
        store.put(name, name.encode())
    assert store.list() == sorted(names)
    assert store.list("trials/") == ["trials/10.json", "trials/2.json"]
    assert store.list("tri") == ["trials.csv", "trials/10.json", "trials/2.json"]
    assert [store.get(name) for name in names] == [name.encode() for name in names]


def test_runs_do_not_see_each_other(open_here: Open) -> None:
    one, other = open_here("run"), open_here("run2")
    one.put("a", b"1")
    other.put("a", b"2")
    other.put("b", b"2")
    one.tidy()
    assert one.list() == ["a"]
    assert (one.get("a"), other.get("a")) == (b"1", b"2")


def test_names_that_not_every_store_can_hold(store: ArtifactStore) -> None:
    for name in ("", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b"):
        for call in (store.get, store.get_versioned, store.delete):
            with pytest.raises(ValueError, match="not a name"):
                call(name)
        with pytest.raises(ValueError, match="not a name"):
            store.put(name, b"")
        with pytest.raises(ValueError, match="not a name"):
            store.put_if(name, b"", None)


def test_put_if_nothing_is_there(patient: ArtifactStore) -> None:
    assert patient.put_if("lock", b"mine", None)
    assert not patient.put_if("lock", b"yours", None)
    assert patient.get("lock") == b"mine"


def test_put_if_it_is_still_the_same(patient: ArtifactStore) -> None:
    assert not patient.put_if("lock", b"0", "a version of nothing")
    assert patient.get("lock") is None
    patient.put("lock", b"1")
    content, version = patient.get_versioned("lock") or (b"", "")
    assert content == b"1"
    assert patient.put_if("lock", b"2", version)
    assert not patient.put_if("lock", b"3", version)
    _, second = patient.get_versioned("lock") or (b"", "")
    assert second != version
    assert patient.get("lock") == b"2"
    patient.delete("lock")
    assert not patient.put_if("lock", b"4", second)
    assert patient.get("lock") is None


@pytest.mark.parametrize("held", [False, True], ids=["free", "held by a dead owner"])
def test_one_of_many_threads_wins(open_here: Open, held: bool) -> None:
    stores = [open_here(limits=PATIENT) for _ in range(4)]
    if held:
        stores[0].put("lock", b"of a dead owner")
    _, version = stores[0].get_versioned("lock") or (b"", None)
    together = threading.Barrier(len(stores))

    def take(number: int) -> bool:
        together.wait()
        return stores[number].put_if("lock", f"of {number}".encode(), version)

    with ThreadPoolExecutor(len(stores)) as pool:
        won = list(pool.map(take, range(len(stores))))
    assert won.count(True) == 1
    assert stores[0].get("lock") == f"of {won.index(True)}".encode()


RACER = """
import sys, time
from job.storage import open_store
output, me, start = sys.argv[1:]
store = open_store(output, "run")
_, version = store.get_versioned("lock") or (b"", None)
time.sleep(max(0, float(start) - time.time()))
print(store.put_if("lock", me.encode(), version))
"""


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_one_of_many_processes_wins(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    output = str(tmp_path)
    if kind == "s3":
        request.getfixturevalue("s3_environment")
        output = f"s3://{request.getfixturevalue('bucket')}"
    start = time.time() + 2
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, output, str(me), str(start)], cwd=ROOT, stdout=subprocess.PIPE)
        for me in range(3)
    ]
    said = [racer.communicate()[0].decode().strip() for racer in racers]
    assert sorted(said) == ["False", "False", "True"]
    assert storage.open_store(output, "run").get("lock") == str(said.index("True")).encode()


def test_open_store_tells_the_kinds_apart(tmp_path: Path, s3_environment: dict[str, str], bucket: str) -> None:
    assert storage.open_store(str(tmp_path / "o"), "run").uri == str(tmp_path / "o" / "run")
    assert not (tmp_path / "o").exists()
    assert storage.open_store(f"s3://{bucket}/a/b/", "run").uri == f"s3://{bucket}/a/b/run"
    assert storage.open_store(f"s3://{bucket}", "run").uri == f"s3://{bucket}/run"
    opened = storage.open_store(f"s3://{bucket}", "run")
    opened.put("a", b"1")
    assert opened.get("a") == b"1"


def test_a_directory_needs_no_boto3(tmp_path: Path) -> None:
    code = "import sys; from job.storage import open_store; open_store('o', 'r').put('a', b''); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, check=True
    )
    assert b"boto" not in done.stdout


# ---- a directory ----


def test_increments_by_many_processes_are_all_there(tmp_path: Path) -> None:
    """Each adds 1 to a shared number 40 times, by put_if on what it has read."""
    code = """
import sys
from job.storage import open_store
store = open_store(sys.argv[1], "run")
done = 0
while done < 40:
    content, version = store.get_versioned("number")
    done += store.put_if("number", str(int(content) + 1).encode(), version)
"""
    store = LocalStore(tmp_path / "run")
    store.put("number", b"0")
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT) for _ in range(3)]
    assert [worker.wait() for worker in workers] == [0, 0, 0]
    assert store.get("number") == b"120"


def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    code = """
import sys
from job.storage import open_store
store = open_store(sys.argv[1], "run")
print("ready", flush=True)
while True:
    for letter in b"ab":
        store.put("content", bytes([letter]) * 300_000)
"""
    store = LocalStore(tmp_path / "run")
    store.put("content", b"a" * 300_000)
    draw = random.Random(0)
    for _ in range(8):
        writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE)
        assert writer.stdout
        writer.stdout.readline()
        time.sleep(draw.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        content = store.get("content") or b""
        assert content in (b"a" * 300_000, b"b" * 300_000)
        assert store.list() == ["content"]
    store.tidy()
    assert [path.name for path in store.root.iterdir()] == ["content"]


def test_delete_leaves_no_empty_folders(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    for name in ("checkpoint/deep/0", "checkpoint/1"):
        store.put(name, b"1")
    store.delete("checkpoint/deep/0")
    assert store.list() == ["checkpoint/1"]
    assert not (tmp_path / "checkpoint" / "deep").exists()
    store.delete("checkpoint/1")
    assert list(tmp_path.iterdir()) == []
    store.put("checkpoint/1", b"2")
    assert store.get("checkpoint/1") == b"2"


def test_put_beside_delete_in_one_folder(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)

    def come_and_go(name: str) -> None:
        for _ in range(100):
            store.put(name, b"1")
            store.delete(name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(come_and_go, ["folder/a", "folder/b"]))
    assert list(tmp_path.iterdir()) == []


def test_tidy_removes_only_unfinished_files(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.put("deep/er", b"1")
    (tmp_path / "deep" / ".er.x1.part").write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"somebody's own")
    (tmp_path / ".hidden").write_bytes(b"somebody's own")
    store.tidy()
    assert store.list() == ["deep/er", "mine.part"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == [".hidden", "deep", "er", "mine.part"]


@pytest.mark.parametrize(("umask", "mode"), [("022", 0o644), ("077", 0o600), ("002", 0o664)])
def test_others_may_read_results_as_the_umask_says(tmp_path: Path, umask: str, mode: int) -> None:
    """Temporary files are their owner's alone, whatever the umask; what becomes of them must not be."""
    code = """
import sys
from pathlib import Path
from job.storage.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
store.put("a", b"1")
store.put_if("b", b"1", None)
"""
    as_user = ["sh", "-c", f'umask {umask}; exec "$@"', "sh", sys.executable, "-c", code, str(tmp_path)]
    subprocess.run(as_user, env=bare_environment(), check=True)
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in "ab"] == [mode, mode]


@pytest.mark.parametrize("step", ["fsync", "replace", "link"])
def test_a_full_disk(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(tmp_path)
    store.put("a", b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if step == "replace":
        monkeypatch.setattr(Path, step, full)
    else:
        monkeypatch.setattr(os, step, full)
    with pytest.raises(TemporaryFault, match="No space left") as raised:
        store.put_if("b", b"new", None) if step == "link" else store.put("a", b"new")
    assert str(tmp_path) in raised.value.what
    assert store.get("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_place_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = LocalStore(tmp_path / "file" / "run")
    assert store.get("a") is None
    for call in (lambda: store.put("a", b""), lambda: store.put_if("a", b"", None)):
        with pytest.raises(Fault, match=r"cannot write .*/file/run/a: Not a directory") as raised:
            call()
        assert raised.value.exit_code == 78
        assert "OUTPUT" in raised.value.remedy


def test_file_systems_without_links_or_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lacks(*_: object, **__: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "link", lacks)
    monkeypatch.setattr(files.fcntl, "flock", lacks)
    store = LocalStore(tmp_path)
    test_put_if_nothing_is_there(store)
    store.delete("lock")
    test_put_if_it_is_still_the_same(store)


def test_what_a_directory_holds_is_durable_on_return(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """First the content under its temporary name, then, after the rename, link or removal, the folder that names it."""
    store, synced, fsync = LocalStore(tmp_path), list[int](), os.fsync

    def noted(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    folder = tmp_path.stat().st_ino
    for name, write in {
        "a": lambda: store.put("a", b"1"),
        "b": lambda: store.put_if("b", b"1", None),
        "c": lambda: store.put_known("c", b"1", None),
    }.items():
        synced.clear()
        write()
        assert synced[-2:] == [(tmp_path / name).stat().st_ino, folder], name
    synced.clear()
    store.delete("a")
    assert synced == [folder]
