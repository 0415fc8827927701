"""Objects of a bucket read for a data set: all below a prefix, and one from the byte where it was cut off."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from job import storage
from job.errors import Fault, TemporaryFault
from job.storage.objects import NotWritten
from job.storage.s3_client import Limits
from job.storage.s3_object import open_object
from tests.helpers import fault_proxy
from tests.helpers.s3_fixtures import set_aws
from tests.helpers.s3_server import STRANGER, Server

CONTENT = os.urandom(300_000)


def read(url: str, offset: int = 0, validator: str = "") -> tuple[int, str, bytes]:
    with open_object(url, offset, validator, Limits()) as stream:
        content = b"".join(iter(lambda: stream.read1(1 << 16), b""))
        assert stream.length == len(content)
        return stream.offset, stream.validator, content


@pytest.mark.usefixtures("s3_environment")
def test_an_object_from_a_byte_on(owner: Any, bucket: str) -> None:
    """While it is the same; else, or where there is nothing beyond, all of it."""
    owner.put_object(Bucket=bucket, Key="a.zip", Body=CONTENT)
    url = f"s3://{bucket}/a.zip"
    offset, etag, whole = read(url)
    assert (offset, whole) == (0, CONTENT)
    assert read(url, 1000, etag) == (1000, etag, CONTENT[1000:])
    assert read(url, len(CONTENT), etag) == (0, etag, CONTENT)
    owner.put_object(Bucket=bucket, Key="a.zip", Body=CONTENT[::-1])
    offset, other, whole = read(url, 1000, etag)
    assert (offset, whole) == (0, CONTENT[::-1])
    assert other != etag


@pytest.mark.usefixtures("s3_environment")
def test_all_below_a_prefix(owner: Any, bucket: str, tmp_path: Path) -> None:
    """More than a page of a listing has; another prefix that begins alike, and folders' marks, do not count."""
    names = [f"cat/{number:04}.jpg" for number in range(5)] + ["dog/\u00fc \u732b+%41.jpg", "empty"]
    for name in names:
        owner.put_object(Bucket=bucket, Key=f"my/birds/{name}", Body=b"" if name == "empty" else name.encode())
    owner.put_object(Bucket=bucket, Key="my/birds/cat/", Body=b"")
    owner.put_object(Bucket=bucket, Key="my/birds-of-others/x.jpg", Body=b"x")
    prefix = storage.open_prefix(f"s3://{bucket}/my/birds", connections=2)
    entries = prefix.entries()
    assert [entry.name for entry in entries] == sorted(names)
    assert prefix.uri == f"s3://{bucket}/my/birds/"
    for entry in entries:
        prefix.save(entry, tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == (b"" if entry.name == "empty" else entry.name.encode())
        assert (tmp_path / "file").stat().st_size == entry.size
    with pytest.raises(NotWritten) as caught:
        prefix.save(entries[0], tmp_path / "no such folder" / "file")
    assert caught.value.error.errno == errno.ENOENT
    assert len(storage.open_prefix(f"s3://{bucket}", connections=1).entries()) == len(names) + 1


@pytest.mark.usefixtures("s3_environment")
def test_an_object_that_changes_meanwhile(owner: Any, bucket: str, tmp_path: Path) -> None:
    for name in ("gone", "other"):
        owner.put_object(Bucket=bucket, Key=name, Body=CONTENT)
    prefix = storage.open_prefix(f"s3://{bucket}", connections=1)
    gone, other = prefix.entries()
    owner.delete_object(Bucket=bucket, Key="gone")
    owner.put_object(Bucket=bucket, Key="other", Body=CONTENT[::-1])
    for entry in (gone, other):
        with pytest.raises(TemporaryFault, match=f"{entry.name} changed while the images were fetched"):
            prefix.save(entry, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_object_that_is_cut_off_is_read_again(
    owner: Any, bucket: str, proxy: fault_proxy.Proxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    owner.put_object(Bucket=bucket, Key="a", Body=CONTENT)
    set_aws(monkeypatch, proxy.endpoint)
    prefix = storage.open_prefix(f"s3://{bucket}", connections=1)
    (entry,) = prefix.entries()
    proxy.rules = [fault_proxy.Rule("half", "GET", having=f"/{bucket}/a", times=1)]
    prefix.save(entry, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_bucket_that_may_not_be_read(swift: Server, owner: Any, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws(monkeypatch, swift.endpoint, STRANGER)
    with pytest.raises(Fault, match="not permitted") as caught:
        storage.open_prefix(f"s3://{bucket}/x", connections=1).entries()
    assert caught.value.exit_code == 78
    with pytest.raises(Fault, match="DATA_URL: no bucket can be called"):
        storage.open_prefix("s3://!/x", connections=1)
