"""DATA_URL for a folder: an archive or a bucket's prefix in DATA_DIR, whole, once, and again where it has changed."""

from __future__ import annotations

import json
import random
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from job.console.logs import LOGGER
from job.console.progress import Move
from job.data import archive, bucket, fetched, folder
from job.data.archive import Archive
from job.data.fetched import Fetched, name_of, understood
from job.data.staging import Place
from job.errors import Fault, Interrupted, TemporaryFault
from job.storage.room import size
from tests.conftest import TINY, Job
from tests.data.test_unpack import tarred, zipped
from tests.helpers import fault_proxy
from tests.helpers.folders import pictures, quiet
from tests.helpers.mirror import mirror
from tests.helpers.s3_fixtures import set_aws


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO", logger=LOGGER.name)
    return caplog


@pytest.fixture(scope="module")
def birds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Two classes of six images, and a large file so that an archive comes in several pieces."""
    names = (f"{part}/{c}/{n}.png" for part in ("train", "test") for c in ("robin", "wren") for n in range(3))
    root = pictures(tmp_path_factory.mktemp("birds"), *names)
    files = {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*.png"))}
    return files | {"notes.pdf": random.Random(0).randbytes(300_000)}


def content(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in root.rglob("*") if file.is_file()}


def same(found: Fetched, files: dict[str, bytes]) -> bool:
    there = content(found.root)
    del there[".fetched.json"]
    return there == files


def beside(data: Path) -> set[str]:
    return {path.name for path in data.iterdir()}


def stopping(title: str, after: int) -> Any:
    """A bar that raises, as a signal does, once so many bytes have passed under a title that begins so."""

    @contextmanager
    def bar(named: str, total: int | None, unit: str) -> Iterator[Move]:
        passed = 0

        def move(count: int, total: int | None = None) -> None:
            nonlocal passed
            passed += count
            if named.startswith(title) and passed >= after:
                raise Interrupted(15)

        yield move

    return bar


# ---- an archive ----


@pytest.mark.parametrize("packed", [zipped, tarred, lambda files: tarred(files, "w:gz")])
def test_an_archive_is_fetched_once(packed: Any, birds: dict[str, bytes], tmp_path: Path) -> None:
    with mirror(packed(birds)) as (address, requests):
        urls = (f"{address}/missing/birds.zip?token=canary", f"{address}/rest/birds.zip?token=canary")
        first = fetched.fetched(urls, tmp_path / "data", quiet)
        asked = len(requests)
        again = fetched.fetched(urls, tmp_path / "data", quiet)
        assert len(requests) == asked + 2, "both are asked whether they have it, and no more"
    assert again == first
    assert first.root == tmp_path / "data" / "birds"
    assert same(first, birds)
    assert first.about["address"] == f"{address}/rest/birds.zip"
    assert first.about["bytes"] == len(packed(birds))
    assert set(first.about) == {"address", "bytes", "etag", "sha256"}
    assert beside(tmp_path / "data") == {"birds", ".birds.lock"}
    assert not any(b"canary" in file for file in content(tmp_path).values())
    assert len(folder.load(first.root, bar=quiet).train_labels) == 6


def test_a_changed_archive_is_fetched_again(birds: dict[str, bytes], tmp_path: Path) -> None:
    source = tmp_path / "birds.zip"
    source.write_bytes(zipped(birds))
    first = fetched.fetched((source.as_uri(),), tmp_path / "data", quiet)
    fewer = dict(list(birds.items())[1:])
    source.write_bytes(zipped(fewer))
    second = fetched.fetched((source.as_uri(),), tmp_path / "data", quiet)
    assert same(second, fewer)
    assert first.about["sha256"] != second.about["sha256"]
    assert beside(tmp_path / "data") == {"birds", ".birds.lock"}


def test_what_is_there_serves_where_the_address_does_not(
    birds: dict[str, bytes], tmp_path: Path, told: pytest.LogCaptureFixture
) -> None:
    with mirror(zipped(birds)) as (address, _):
        first = fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet)
    assert fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet) == first
    assert "is used as it was fetched" in told.text
    with pytest.raises(TemporaryFault, match=r"other\.zip could not be fetched"):
        fetched.fetched((f"{address}/rest/other.zip",), tmp_path, quiet)
    assert not (tmp_path / "other").exists()


def test_a_download_that_was_killed_is_gone_on_with(birds: dict[str, bytes], tmp_path: Path) -> None:
    """The signed query of the address is another one the next day."""
    with mirror(zipped(birds)) as (address, requests):
        with pytest.raises(Interrupted):
            fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, stopping("download", 65536))
        assert not (tmp_path / "birds").exists()
        requests.clear()
        found = fetched.fetched((f"{address}/rest/birds.zip?day=2",), tmp_path, quiet)
        assert len(requests) == 2
        begins = int(requests[1].split("bytes=")[1].rstrip("-"))
        assert begins >= 65536
    assert same(found, birds)
    assert beside(tmp_path) == {"birds", ".birds.lock"}


def test_what_changed_meanwhile_comes_whole(birds: dict[str, bytes], tmp_path: Path) -> None:
    fewer = dict(list(birds.items())[1:])
    with mirror(zipped(birds)) as (address, _), pytest.raises(Interrupted):
        fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, stopping("download", 65536))
    note = json.loads((tmp_path / ".birds.archive.part.json").read_text())
    with mirror(zipped(fewer)) as (address, requests):
        (tmp_path / ".birds.archive.part.json").write_text(json.dumps(note | {"address": f"{address}/rest/birds.zip"}))
        found = fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet)
        assert "bytes=" in requests[1]
    assert same(found, fewer)


def test_a_job_killed_while_it_unpacks_need_not_fetch_again(birds: dict[str, bytes], tmp_path: Path) -> None:
    with mirror(zipped(birds)) as (address, requests):
        with pytest.raises(Interrupted):
            fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, stopping("unpack", 500))
        assert not (tmp_path / "birds").exists()
        requests.clear()
        assert same(fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet), birds)
        assert len(requests) == 1
    assert beside(tmp_path) == {"birds", ".birds.lock"}


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (zipped({"../evil": b"x"}), "which lies outside of it"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "is damaged"),
        (b"BZh" + bytes(600), "bzip2"),
        (zipped({"a": b"x"})[:-30], "is damaged"),
    ],
)
def test_a_refused_archive_leaves_nothing(made: bytes, told: str, tmp_path: Path) -> None:
    source = tmp_path / "birds.zip"
    source.write_bytes(made)
    with pytest.raises(Fault, match=told) as caught:
        fetched.fetched((source.as_uri(),), tmp_path / "data", quiet)
    assert caught.value.exit_code == 78
    assert not (tmp_path / "data").exists() or beside(tmp_path / "data") == {".birds.lock"}


def test_no_room(birds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "lacking", lambda *asked: TemporaryFault(f"DATA_DIR: {asked[2]} are needed"))
    with mirror(zipped(birds)) as (address, requests):
        with pytest.raises(TemporaryFault, match=f"{2 * len(zipped(birds))} are needed"):
            fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet)
        assert len(requests) == 1, "told before it is fetched"


def test_nothing_of_the_users_is_replaced(birds: dict[str, bytes], tmp_path: Path) -> None:
    source = tmp_path / "birds.zip"
    source.write_bytes(zipped(birds))
    (tmp_path / "data/birds/train").mkdir(parents=True)
    with pytest.raises(Fault, match="birds was not fetched by this job, and DATA_URL would take its place"):
        fetched.fetched((source.as_uri(),), tmp_path / "data", quiet)
    shutil.rmtree(tmp_path / "data")
    fetched.fetched((source.as_uri(),), tmp_path / "data", quiet)
    (tmp_path / "other").mkdir()
    shutil.move(source, tmp_path / "other")
    with pytest.raises(Fault, match=r"birds was fetched from file://.*/birds\.zip, and DATA_URL would take"):
        fetched.fetched(((tmp_path / "other/birds.zip").as_uri(),), tmp_path / "data", quiet)


def test_two_jobs_fetch_it_once(birds: dict[str, bytes], tmp_path: Path, told: pytest.LogCaptureFixture) -> None:
    with mirror(zipped(birds)) as (address, requests):
        found: list[Fetched] = []

        def fetch() -> None:
            found.append(fetched.fetched((f"{address}/rest/birds.zip",), tmp_path, quiet))

        with Place(tmp_path, "birds").locked(lambda: None):
            jobs = [threading.Thread(target=fetch) for _ in range(2)]
            for job in jobs:
                job.start()
            while told.text.count("another job fetches") < 2:
                time.sleep(0.01)
            assert found == []
        for job in jobs:
            job.join()
        assert len(requests) == 3, "two looks, one download"
    assert found[0] == found[1]


def test_a_job_killed_in_the_exchange(birds: dict[str, bytes], tmp_path: Path) -> None:
    """The old data set is put back, or what is left of it goes."""
    source = tmp_path / "birds.zip"
    source.write_bytes(zipped(birds))
    place = Place(tmp_path / "data", "birds")
    fetched.fetched((source.as_uri(),), place.directory, quiet)
    place.root.rename(place.beside(".old"))
    with place.locked(lambda: None):
        assert content(place.root)
    assert beside(place.directory) == {"birds", ".birds.lock"}
    shutil.copytree(place.root, place.beside(".old"))
    with place.locked(lambda: None):
        assert beside(place.directory) == {"birds", ".birds.lock"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://host/a/My%20Birds.tar.gz?x=1", "My-Birds"),
        ("https://host/download?id=5", "download"),
        ("https://host/", "host"),
        ("s3://bucket/photos/birds/", "birds"),
        ("s3://bucket", "bucket"),
        ("https://host/..zip", "images"),
        ("https://host/%2e%2e%2f.hidden.zip", "hidden"),
    ],
)
def test_the_folders_name(url: str, name: str) -> None:
    assert name_of(url) == name


def test_an_archive_in_a_bucket_is_no_prefix(tmp_path: Path) -> None:
    assert isinstance(understood(("s3://b/birds.ZIP", "https://host/birds"), tmp_path), Archive)
    assert understood(("s3://b/birds",), tmp_path) == Place(tmp_path, "birds")
    with pytest.raises(Fault, match="serves alone"):
        understood(("s3://b/birds", "https://host/birds.zip"), tmp_path)


# ---- a bucket ----


@pytest.fixture
def filled(owner: Any, bucket: str, birds: dict[str, bytes]) -> str:
    for name, body in birds.items():
        owner.put_object(Bucket=bucket, Key=f"my/birds/{name}", Body=body)
    owner.put_object(Bucket=bucket, Key="my/birds/train/.DS_Store", Body=b"x")
    return bucket


@pytest.fixture
def store(proxy: fault_proxy.Proxy, monkeypatch: pytest.MonkeyPatch) -> fault_proxy.Proxy:
    set_aws(monkeypatch, proxy.endpoint)
    return proxy


def read(store: fault_proxy.Proxy) -> list[str]:
    """The names of the objects that were read, in alphabetical order; forgets them."""
    names = [line.split()[1].partition("/birds/")[2] for line in store.requests if "list-type" not in line]
    store.requests.clear()
    return sorted(names)


def test_a_prefix_is_fetched_once_and_what_changes_again(
    owner: Any, filled: str, store: fault_proxy.Proxy, birds: dict[str, bytes], tmp_path: Path
) -> None:
    url = (f"s3://{filled}/my/birds",)
    first = fetched.fetched(url, tmp_path, quiet)
    assert same(first, birds)
    assert first.about["objects"] == len(birds)
    assert first.about["address"] == f"s3://{filled}/my/birds/"
    assert read(store) == sorted(birds)
    assert fetched.fetched(url, tmp_path, quiet) == first
    assert read(store) == []
    one, two, three, *_ = sorted(birds)
    owner.put_object(Bucket=filled, Key=f"my/birds/{one}", Body=birds[one][::-1])
    owner.delete_object(Bucket=filled, Key=f"my/birds/{two}")
    owner.put_object(Bucket=filled, Key="my/birds/train/wren/new.png", Body=b"new")
    (first.root / three).write_bytes(b"somebody has cut it off")
    now = {name: body for name, body in birds.items() if name != two}
    now |= {one: birds[one][::-1], "train/wren/new.png": b"new"}
    second = fetched.fetched(url, tmp_path, quiet)
    assert same(second, now)
    assert read(store) == sorted([one, three, "train/wren/new.png"]), "what has not changed is not read again"
    assert second.about["sha256"] != first.about["sha256"]
    assert beside(tmp_path) == {"birds", ".birds.lock"}


def test_a_killed_fetch_of_a_prefix_is_gone_on_with(
    filled: str, store: fault_proxy.Proxy, birds: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket, "CONNECTIONS", 1)
    url = (f"s3://{filled}/my/birds",)
    few = sum(len(birds[name]) for name in sorted(birds)[:5])
    with pytest.raises(Interrupted):
        fetched.fetched(url, tmp_path, stopping("download", few))
    assert not (tmp_path / "birds").exists()
    time.sleep(0.3)  # the thread that was left behind may finish its object
    done = set((tmp_path / ".birds.part.jsonl").read_text().splitlines())
    assert 5 <= len(done) < len(birds)
    (tmp_path / ".birds.part" / "train").mkdir(exist_ok=True)
    (tmp_path / ".birds.part" / "train" / "half").write_bytes(b"of an object that is not there any more")
    store.requests.clear()
    found = fetched.fetched(url, tmp_path, quiet)
    assert same(found, birds)
    assert len(read(store)) == len(birds) - len(done)
    assert beside(tmp_path) == {"birds", ".birds.lock"}


def test_a_stop_is_heard_while_the_store_hangs(filled: str, store: fault_proxy.Proxy, tmp_path: Path) -> None:
    store.rules = [fault_proxy.Rule("hang", "GET", having=".png")]
    started = time.monotonic()
    with pytest.raises(Interrupted):
        fetched.fetched((f"s3://{filled}/my/birds",), tmp_path, stopping("download", 0))
    assert time.monotonic() - started < 5


@pytest.mark.usefixtures("s3_environment")
def test_what_cannot_be_a_folder(owner: Any, bucket: str, tmp_path: Path) -> None:
    def refused(*keys: str) -> str:
        for key in keys:
            owner.put_object(Bucket=bucket, Key=f"x/{key}", Body=b"x")
        with pytest.raises(Fault) as caught:
            fetched.fetched((f"s3://{bucket}/x",), tmp_path, quiet)
        for key in keys:
            owner.delete_object(Bucket=bucket, Key=f"x/{key}")
        assert caught.value.exit_code == 78
        return caught.value.what

    assert "there is nothing below" in refused("__MACOSX/a.png")
    assert "an object that no file can be called as: a//b.png" in refused("a//b.png")
    assert "has both a.png and objects below it" in refused("a.png", "a.png/b.png")
    assert "does not exist" in refused_bucket(tmp_path)
    assert not (tmp_path / "x").exists()


def refused_bucket(place: Path) -> str:
    with pytest.raises(Fault) as caught:
        fetched.fetched(("s3://no-such-bucket/x",), place, quiet)
    return caught.value.what


def test_an_archive_in_a_bucket_is_gone_on_with(
    owner: Any, bucket: str, store: fault_proxy.Proxy, birds: dict[str, bytes], tmp_path: Path
) -> None:
    owner.put_object(Bucket=bucket, Key="birds.tar", Body=tarred(birds))
    url = (f"s3://{bucket}/birds.tar",)
    with pytest.raises(Interrupted):
        fetched.fetched(url, tmp_path, stopping("download", 65536))
    part = (tmp_path / ".birds.archive.part").stat().st_size
    assert part >= 65536
    found = fetched.fetched(url, tmp_path, quiet)
    assert same(found, birds)
    assert found.about["etag"]
    assert beside(tmp_path) == {"birds", ".birds.lock"}


# ---- whole jobs ----

FAST = {**TINY, "DATASET": "folder", "DATA_LIMIT": "", "LEARNING_RATE": "0.001", "EPOCHS": "1", "RUN_ID": "mine"}


@pytest.mark.usefixtures("short_measurements")
def test_a_job_from_a_bucket(
    main: Job, owner: Any, filled: str, s3_environment: dict[str, str], birds: dict[str, bytes], tmp_path: Path
) -> None:
    """Run, verified where DATA_URL is set and where only the folder is; with the images in the bucket exchanged the
    finished run is not taken for this one's.
    """
    variables = FAST | s3_environment | {"DATA_URL": f"s3://{filled}/my/birds"}
    checked = main(**variables, MODE="check")
    assert checked.returncode == 0, checked.stdout
    told = f"13 objects, {size(sum(map(len, birds.values())))}, 12 of them named as images; 13, "
    assert told in checked.stdout
    assert not (tmp_path / "data").exists()
    done = main(**variables)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "outputs/mine/results.json").read_text())
    assert results["data"]["fetched"]["address"] == f"s3://{filled}/my/birds/"
    assert results["data"]["fetched"]["objects"] == 13
    assert results["data"]["origin"] == "data/birds"
    for where in ({}, {"DATA_URL": "", "DATA_DIR": "data/birds"}):
        verified = main(**(variables | where), MODE="verify")
        assert verified.returncode == 0, verified.stdout
    checked = main(**variables, MODE="check")
    assert "birds is there already" in checked.stdout
    assert "6 training and 6 test images" in checked.stdout
    owner.put_object(Bucket=filled, Key="my/birds/train/wren/0.png", Body=birds["test/wren/0.png"])
    again = main(**variables)
    assert again.returncode == 78
    assert "1 object(s) fetched, 12 were here already" in again.stdout
    assert "holds a finished run" in again.stdout
    within = main(**(variables | {"OUTPUT": f"s3://{filled}/my/birds/runs"}))
    assert within.returncode == 78
    assert "OUTPUT lies within the prefix that DATA_URL names" in within.stdout


@pytest.mark.usefixtures("short_measurements")
def test_a_job_from_a_signed_address(main: Job, birds: dict[str, bytes], tmp_path: Path) -> None:
    """Nothing of the signature is in any file, nor in the log."""
    with mirror(tarred(birds, "w:gz")) as (address, _):
        variables = FAST | {"DATA_URL": f"{address}/rest/birds.tgz?signature=canary"}
        checked = main(**variables, MODE="check")
        assert f"{address}/rest/birds.tgz answers: tar.gz, 3" in checked.stdout
        done = main(**variables)
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"kB fetched and unpacked into {Path('data/birds')}" in done.stdout
        missing = main(**(variables | {"DATA_URL": f"{address}/missing/x.zip?signature=canary"}), MODE="check")
        assert missing.returncode == 78
        assert "HTTP status 404" in missing.stdout
    assert main(**variables, MODE="verify").returncode == 0, "without the address, by what is there"
    assert "Fetched from" in (tmp_path / "outputs/mine/report.html").read_text()
    for said in (checked.stdout, done.stdout, missing.stdout):
        assert "canary" not in said
    assert not [name for name, file in content(tmp_path).items() if b"canary" in file]
