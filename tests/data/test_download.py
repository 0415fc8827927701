"""Downloads from mirrors that are slow, cut off, missing, wrong or silent."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from job.console.progress import Progress
from job.data.addresses import public, read_whole
from job.data.attentive import Stream
from job.data.download import Limits, fetch, probe
from job.data.part import data_file
from job.errors import Fault, Interrupted, TemporaryFault
from job.interrupt import Stop
from job.settings import foreign
from tests.helpers.mirror import mirror
from tests.helpers.s3_server import Server

CONTENT = random.Random(0).randbytes(100_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
QUICK = Limits(slowest=(50e3, 1e3), window=0.3, timeout=1.0)


def no_s3(url: str) -> AbstractContextManager[Stream]:
    raise AssertionError(f"{url} is not for S3")


def get(urls: list[str], target: Path, limits: Limits = QUICK) -> None:
    fetch(urls, data_file(target, MD5, len(CONTENT)), bar=Progress("off").bar, open_s3=no_s3, limits=limits)


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    with mirror(CONTENT) as running:
        yield running


@pytest.mark.parametrize("manner", ["good", "nolength", "flaky"])
def test_one_good_mirror(tmp_path: Path, server: tuple[str, list[str]], manner: str) -> None:
    target = tmp_path / "new" / "file"
    get([f"{server[0]}/{manner}"], target)
    assert target.read_bytes() == CONTENT
    assert list(target.parent.iterdir()) == [target], "no temporary file stays"


@pytest.mark.parametrize("manner", ["slow", "cut", "missing", "busy", "wrong", "hang"])
def test_a_bad_mirror_leads_to_the_next(tmp_path: Path, server: tuple[str, list[str]], manner: str) -> None:
    address, requests = server
    started = time.monotonic()
    get([f"{address}/{manner}", f"{address}/good"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert requests == [f"/{manner}", "/good"]
    assert time.monotonic() - started < 5


def test_the_second_round_takes_what_is_slow_but_alive(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, requests = server
    get([f"{address}/slow", f"{address}/missing"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert requests == ["/slow", "/missing", "/slow"], "what is not there is not asked for again"


def test_what_was_cut_off_is_gone_on_with(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, requests = server
    get([f"{address}/parts"], tmp_path / "file", replace(QUICK, slowest=(1e3, 1e3, 1e3)))
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert requests == ["/parts", "/parts bytes=50000-", "/parts bytes=75000-"]


def test_another_mirror_goes_on_where_the_hash_is_known(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    address, requests = server
    get([f"{address}/cut", f"{address}/parts", f"{address}/parts/2"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert requests[:2] == ["/cut", "/parts bytes=50000-"]


def test_a_part_of_another_file_is_not_gone_on_with(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """Without a hash only the server can tell, by its ETag; what it renewed comes whole."""
    address, requests = server
    unknown = replace(data_file(tmp_path / "file", "", len(CONTENT)), algorithm="sha256")
    fetch([f"{address}/renewed"], unknown, bar=Progress("off").bar, open_s3=no_s3, limits=QUICK)
    assert (tmp_path / "file").read_bytes() == CONTENT[::-1]
    assert requests == ["/renewed", "/renewed bytes=50000-"]
    (tmp_path / "file").unlink()
    requests.clear()
    fetch([f"{address}/cut", f"{address}/rest"], unknown, bar=Progress("off").bar, open_s3=no_s3, limits=QUICK)
    assert requests == ["/cut", "/rest"], "no server is asked to go on with another one's part"


def test_a_wrong_beginning_costs_one_more_request(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    """The first mirror sent half of another file; only the hash of the whole tells."""
    address, requests = server
    with mirror(CONTENT[::-1]) as (other, _):
        get([f"{other}/cut", f"{address}/rest"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert requests == ["/rest bytes=50000-", "/rest"]


@pytest.mark.parametrize("manner", ["endless", "large"])
def test_a_mirror_that_sends_without_end_does_not_fill_the_disk(
    tmp_path: Path, server: tuple[str, list[str]], manner: str
) -> None:
    """No byte beyond the size that is known is kept, the next mirror is asked, and without one it is 78."""
    received: list[int] = []

    @contextmanager
    def bar(title: str, total: int | None, unit: str) -> Iterator[Callable[..., object]]:
        yield lambda count, total=None: received.append(count)

    url = f"{server[0]}/{manner}"
    wanted = data_file(tmp_path / "file", MD5, len(CONTENT))
    with pytest.raises(Fault, match=f"{manner}: sends more than 100,000 bytes, the most that file can have") as caught:
        fetch([url], wanted, bar=bar, open_s3=no_s3, limits=QUICK)
    assert caught.value.exit_code == 78
    assert sum(received) <= len(CONTENT)
    assert list(tmp_path.iterdir()) == []
    get([url, f"{server[0]}/good"], tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("manner", ["silent", "hang", "slow"])
def test_a_stop_is_heard_whatever_the_server_does(tmp_path: Path, server: tuple[str, list[str]], manner: str) -> None:
    stop = Stop()
    timer = threading.Timer(0.5, lambda: setattr(stop, "signum", 15))
    timer.start()
    started = time.monotonic()
    patient = Limits(slowest=(1,), timeout=30)
    wanted = data_file(tmp_path / "file", MD5, len(CONTENT))
    with pytest.raises(Interrupted):
        fetch([f"{server[0]}/{manner}"], wanted, bar=Progress("off", stop.check).bar, open_s3=no_s3, limits=patient)
    assert time.monotonic() - started < 10, "a stopped job has ten seconds in all"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("manner", "kind", "told"),
    [
        ("missing", Fault, "HTTP status 404"),
        ("forbidden", Fault, "HTTP status 403"),
        ("page", Fault, "sent a web page"),
        ("silent", TemporaryFault, "no answer in time"),
        ("wrong", Fault, f"sent other bytes .*expected {MD5}"),
        ("busy", TemporaryFault, "HTTP status 503"),
        ("cut", TemporaryFault, "cut off after 50000 of 100000 bytes"),
        ("hang", TemporaryFault, "no answer in time"),
    ],
)
def test_only_bad_mirrors(
    tmp_path: Path, server: tuple[str, list[str]], manner: str, kind: type[Fault], told: str
) -> None:
    with pytest.raises(Fault, match=told) as caught:
        get([f"{server[0]}/{manner}"], tmp_path / "file")
    assert type(caught.value) is kind
    assert "DATA_URL" in str(caught.value)
    assert list(tmp_path.iterdir()) == [], "neither the file nor a part of it"


def test_a_mirror_that_is_slow_throughout(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    with pytest.raises(TemporaryFault, match="slower than 50 kB/s"):
        get([f"{server[0]}/slow"], tmp_path / "file", Limits(slowest=(50e3, 50e3), window=0.3, timeout=1))


def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(TemporaryFault, match="Connection refused"):
        get(["http://127.0.0.1:9/file"], tmp_path / "file")


@pytest.mark.parametrize("url", ["http://host:port/file", "http://ho st/file", "http://me:pass@127.0.0.1:9/file"])
def test_what_can_never_be_asked_for_is_not_asked_again(tmp_path: Path, url: str) -> None:
    for ask in (lambda: get([url], tmp_path / "file"), lambda: read_whole(url)):
        with pytest.raises(Fault, match="not a usable address") as caught:
            ask()  # type: ignore[no-untyped-call]
        assert type(caught.value) is Fault
    assert probe([url], open_s3=no_s3, check=lambda: None).for_good


def test_a_file_address(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    get([(tmp_path / "source").as_uri()], tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == CONTENT
    with pytest.raises(Fault, match="No such file"):
        get([(tmp_path / "nothing").as_uri()], tmp_path / "other")


def test_an_s3_address_goes_to_the_store(tmp_path: Path) -> None:
    class Body:
        length: int | None = len(CONTENT)

        def __init__(self) -> None:
            self.rest = CONTENT

        def read1(self, size: int, /) -> bytes:
            chunk, self.rest = self.rest[:size], self.rest[size:]
            return chunk

    @contextmanager
    def open_s3(url: str) -> Iterator[Stream]:
        assert url == "s3://bucket/file"
        yield Body()

    fetch(
        ["s3://bucket/file"], data_file(tmp_path / "file", MD5, len(CONTENT)), bar=Progress("off").bar, open_s3=open_s3
    )
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_no_secret_of_an_address_is_told(tmp_path: Path) -> None:
    with pytest.raises(Fault) as caught:
        get(["http://me:canary@127.0.0.1:9/file?token=canary"], tmp_path / "file")
    assert "canary" not in str(caught.value)
    assert public("https://me:canary@host:8443/a/b?c=canary#d") == "https://host:8443/a/b"


def test_a_place_that_cannot_be_written(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    (tmp_path / "file").write_text("where a directory is needed")
    with pytest.raises(Fault, match=r"DATA_DIR.*cannot be written"):
        get([f"{server[0]}/good"], tmp_path / "file" / "target")
    assert server[1] == [], "told before anything is fetched"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="SKIPPED: no /dev/full here")
def test_a_full_disk(tmp_path: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A real ENOSPC: the temporary file is on a device that is always full."""
    import tempfile

    def on_a_full_disk(**_: object) -> tuple[int, str]:
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / ".file.part")

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    with pytest.raises(TemporaryFault, match="No space left on device") as caught:
        get([f"{server[0]}/good"], tmp_path / "file")
    assert caught.value.exit_code == 75


def test_parts_of_killed_downloads_go(tmp_path: Path, server: tuple[str, list[str]]) -> None:
    old, growing = tmp_path / ".file.abc.part", tmp_path / ".file.def.part"
    old.write_bytes(b"x")
    growing.write_bytes(b"y")
    os.utime(old, (1, 1))
    get([f"{server[0]}/good"], tmp_path / "file")
    assert not old.exists()
    assert growing.exists(), "another job's"


# ---- certificates and proxies ----


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_one_rule_for_certificates(swift: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A certificate authority of one's own: refused for good, and taken by any of the names that programs have."""
    for other in foreign.AUTHORITIES:
        monkeypatch.delenv(other, raising=False)
    url = f"{swift.tls_endpoint}/no/such.tar.gz"
    with pytest.raises(Fault, match=r"cannot be verified\. Name the PEM file .* in SSL_CERT_FILE") as caught:
        read_whole(url)
    assert caught.value.exit_code == 78
    monkeypatch.setenv(name, str(swift.certificate))
    with pytest.raises(Fault, match="HTTP status 40"):
        read_whole(url)


def test_a_dead_proxy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://user:canary@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(TemporaryFault, match=r"asked through 127\.0\.0\.1:9, the proxy of") as caught:
        read_whole("http://mirror.example/file")
    assert "canary" not in str(caught.value)
