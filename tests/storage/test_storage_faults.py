"""An S3 store that fails in every way seen: each ends soon, with equal bytes or one clear error, no secret told."""

from __future__ import annotations

import hashlib
import logging
import random
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from job.console.logs import LOGGER
from job.console.progress import Progress
from job.data.download import Limits as DownloadLimits
from job.data.download import fetch
from job.data.part import data_file
from job.errors import Fault, TemporaryFault
from job.storage import open_object, open_store, s3
from job.storage.s3 import S3Store
from tests.conftest import Job
from tests.helpers import s3_server
from tests.helpers.fault_proxy import MESSAGE, Proxy, Rule
from tests.helpers.s3_fixtures import s3_client, set_aws
from tests.helpers.s3_server import OWNER, STRANGER, Key, Server
from tests.storage.test_storage import MIB, QUICK

BRIEF = replace(QUICK, patience=0.5)  # for what no repeat mends
HASTY = replace(BRIEF, read=0.7)  # for a store that hangs
GETS_OVER = replace(HASTY, patience=60.0)  # a hang of `read` seconds must leave some, on a machine under load too
SOON = 12.0  # seconds in which a fault is told with QUICK's limits, on a machine under load
SMALL = random.Random(1).randbytes(200_000)
LARGE = random.Random(2).randbytes(11 * MIB)  # three parts
CANARIES = [f"canary-{kind}" for kind in ("secret", "token", "password", "user", "prefix")]


@pytest.fixture(autouse=True)
def no_canary_in_the_log() -> Iterator[list[str]]:
    """What the job logs, and that it never holds a secret."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.getMessage()} {getattr(record, 'fields', '')}")

    handler = Keep()
    LOGGER.addHandler(handler)
    yield lines
    LOGGER.removeHandler(handler)
    assert not any(secret in line for line in lines for secret in [*CANARIES, MESSAGE, OWNER.secret])


@pytest.fixture
def shaky(request: pytest.FixtureRequest, proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> S3Store:
    """A store that is reached through the proxy."""
    set_aws(monkeypatch, proxy.endpoint)
    return s3.open_store(f"s3://{bucket}", "run", GETS_OVER if "[hang]" in request.node.name else QUICK)


def fails(kind: type[Fault], call: Callable[[], object], *words: str) -> str:
    """What is told when `call` fails: at once this kind of fault, with these words in it and no secret anywhere."""
    started = time.monotonic()
    with pytest.raises(Fault) as raised:
        call()
    assert time.monotonic() - started < SOON
    fault = raised.value
    assert fault.exit_code == kind.exit_code, str(fault)
    assert fault.remedy
    for word in words:
        assert word in str(fault)
    printed = "".join(traceback.format_exception(fault)) + repr(fault)
    assert not any(secret in printed for secret in [*CANARIES, MESSAGE, OWNER.secret])
    return str(fault)


def uploads(client: Any, bucket: str) -> list[str]:
    """The keys of multipart uploads that are neither completed nor aborted."""
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", ())]


# ---- what passes ----

PASSING = ("answer", "reset", "half", "lost", "hang", "flip")


@pytest.mark.parametrize("kind", PASSING)
def test_a_put_gets_over_one_fault(shaky: S3Store, proxy: Proxy, kind: str) -> None:
    proxy.rules = [Rule(kind, times=1)]
    shaky.put("a", SMALL)
    assert len(proxy.requests) == 2, "the fault did not happen"
    assert shaky.get("a") == SMALL


@pytest.mark.parametrize("kind", PASSING)
def test_a_put_in_parts_gets_over_one_fault_at_every_step(
    shaky: S3Store, proxy: Proxy, owner: Any, bucket: str, kind: str
) -> None:
    proxy.rules = [
        Rule(kind, "POST", having="uploads", times=1),
        Rule(kind, "PUT", having="partNumber=2", times=1),
        Rule(kind, "POST", having="uploadId=", times=1),
    ]
    shaky.put("a", LARGE)
    assert [rule.times for rule in proxy.rules] == [0, 0, 0], "the faults did not happen"
    assert shaky.get("a") == LARGE
    shaky.tidy()  # an upload begun twice, because the first answer was lost, is known to the store alone
    assert uploads(owner, bucket) == []


@pytest.mark.parametrize("kind", [kind for kind in PASSING if kind != "lost"])
def test_reading_gets_over_one_fault(shaky: S3Store, proxy: Proxy, kind: str) -> None:
    shaky.put("a", SMALL)
    proxy.rules = [Rule(kind, "GET", having="/run/a", times=1), Rule(kind, "GET", having="list-type", times=1)]
    assert shaky.get("a") == SMALL
    if kind != "flip":  # a listing has no checksum
        assert shaky.list() == ["a"]
        assert [rule.times for rule in proxy.rules] == [0, 0]


def test_a_download_that_was_altered_is_noticed_in_parts_too(shaky: S3Store, proxy: Proxy) -> None:
    shaky.put("a", LARGE)
    proxy.rules = [Rule("flip", "GET", times=1)]
    assert shaky.get("a") == LARGE
    assert proxy.rules[0].times == 0


def test_a_delete_gets_over_one_fault(shaky: S3Store, proxy: Proxy) -> None:
    for kind in ("answer", "reset", "lost"):
        shaky.put("a", SMALL)
        proxy.rules = [Rule(kind, "DELETE", times=1)]
        shaky.delete("a")
        assert shaky.get("a") is None


def test_a_slow_link(shaky: S3Store, proxy: Proxy) -> None:
    content = LARGE[: MIB // 2]
    proxy.rules = [Rule("slow", "*")]
    shaky.put("a", content)
    assert shaky.get("a") == content


def test_a_finished_upload_whose_answer_was_lost(shaky: S3Store, proxy: Proxy, owner: Any, bucket: str) -> None:
    proxy.rules = [
        Rule("lost", "POST", having="uploadId=", times=1),
        Rule("answer", "POST", having="uploadId=", times=1, status=404, code="NoSuchUpload"),
    ]
    shaky.put("a", LARGE)
    assert shaky.get("a") == LARGE
    assert uploads(owner, bucket) == []


def test_an_altered_upload_over_tls(
    tls_proxy: Proxy, swift: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the body is not part of the signature: Content-MD5 guards it."""
    set_aws(monkeypatch, tls_proxy.endpoint, certificate=swift.certificate)
    store = s3.open_store(f"s3://{bucket}", "run", QUICK)
    for content in (SMALL, LARGE):
        tls_proxy.rules = [Rule("flip", times=1)]
        store.put("a", content)
        assert tls_proxy.rules[0].times == 0
        assert store.get("a") == content


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "over TLS"])
def test_a_store_that_refuses_newer_checksum_headers(
    tls: bool, request: pytest.FixtureRequest, swift: Server, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy: Proxy = request.getfixturevalue("tls_proxy" if tls else "proxy")
    proxy.rules = [Rule("old", "*")]
    set_aws(monkeypatch, proxy.endpoint, certificate=swift.certificate if tls else None)
    store = s3.open_store(f"s3://{bucket}", "run", QUICK)
    for content in (SMALL, LARGE):
        store.put("a", content)
        assert store.get("a") == content
    assert store.list() == ["a"]
    store.delete("a")
    store.tidy()
    usual = s3_client(swift, proxy.endpoint)  # a client with boto3's defaults: the rule does bite
    with pytest.raises(usual.exceptions.ClientError, match="NotImplemented"):
        usual.put_object(Bucket=bucket, Key="b", Body=b"1")


# ---- what stays ----

STAYING = {"answer": "SlowDown", "reset": "", "half": "", "hang": "in time", "flip": "altered"}


@pytest.mark.parametrize("kind", STAYING)
def test_a_put_that_never_passes(shaky: S3Store, proxy: Proxy, owner: Any, bucket: str, kind: str) -> None:
    shaky.put("a", b"old")
    proxy.rules = [Rule(kind), Rule(kind, "DELETE", times=1)]
    store = s3.open_store(f"s3://{bucket}", "run", HASTY)
    fails(TemporaryFault, lambda: store.put("a", SMALL), bucket, "store a", STAYING[kind])
    fails(TemporaryFault, lambda: store.put("a", LARGE), bucket, "store a", STAYING[kind])
    proxy.rules = []
    assert store.get("a") == b"old"
    store.put("b", b"1")
    assert uploads(owner, bucket) == []  # the abort had failed as well, and was made up for


@pytest.mark.parametrize("kind", STAYING)
def test_reading_that_never_passes(shaky: S3Store, proxy: Proxy, bucket: str, kind: str) -> None:
    shaky.put("a", SMALL)
    proxy.rules = [Rule(kind, "GET")]
    store = s3.open_store(f"s3://{bucket}", "run", HASTY)
    fails(TemporaryFault, lambda: store.get("a"), bucket, "read a")
    fails(TemporaryFault, lambda: store.get_versioned("a"), bucket, "read a")
    if kind != "flip":
        fails(TemporaryFault, store.list, bucket, "list")


@pytest.mark.parametrize(
    ("status", "code", "kind", "word"),
    [
        (400, "ExpiredToken", Fault, "expired"),
        (400, "InvalidToken", Fault, "AWS_SESSION_TOKEN"),
        (403, "RequestTimeTooSkewed", Fault, "clock"),
        (403, None, Fault, "not permitted"),
        (403, "AccessDenied", Fault, "s3:ListBucket"),
        (403, "InvalidAccessKeyId", Fault, "AWS_ACCESS_KEY_ID"),
        (403, "QuotaExceeded", TemporaryFault, "room"),
        (301, "PermanentRedirect", Fault, "AWS_REGION"),
        (404, None, Fault, "speaks S3"),
        (404, "NoSuchBucket", Fault, "does not exist"),
        (405, "MethodNotAllowed", Fault, "MethodNotAllowed, 405"),
        (409, "OperationAborted", TemporaryFault, "busy"),
        (429, None, TemporaryFault, "busy"),
        (500, None, TemporaryFault, "busy"),
        (501, "NotImplemented", Fault, "NotImplemented"),
        (507, "InsufficientStorage", TemporaryFault, "room"),
    ],
)
@pytest.mark.usefixtures("shaky")
def test_what_stores_answer(
    proxy: Proxy, bucket: str, status: int, code: str | None, kind: type[Fault], word: str
) -> None:
    proxy.rules = [Rule("answer", "*", status=status, code=code)]
    store = s3.open_store(f"s3://{bucket}", "run", BRIEF)
    told = fails(kind, lambda: store.put("a", b""), bucket, "store a", word)
    assert ("expired" in told) == (code == "ExpiredToken")
    fails(kind, lambda: store.get("a"), bucket, "read a", word)
    fails(kind, lambda: store.put_if("a", b"", None), bucket, word)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (Key(OWNER.id, "canary-secret"), "AWS_SECRET_ACCESS_KEY"),
        (Key("test:nobody", OWNER.secret), "AWS_ACCESS_KEY_ID"),
        (STRANGER, "not permitted"),
    ],
    ids=["wrong secret", "wrong key", "no permission"],
)
def test_credentials_that_do_not_serve(
    key: Key, word: str, swift: Server, owner: Any, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aws(monkeypatch, swift.endpoint, key)
    store = s3.open_store(f"s3://{bucket}", "run", QUICK)
    calls: list[tuple[str, Callable[[], object]]] = [
        ("store a", lambda: store.put("a", b"")),
        ("store a", lambda: store.put("a", LARGE)),
        ("read a", lambda: store.get("a")),
        ("read a", lambda: store.put_if("a", b"", None)),
        ("list", store.list),
        ("delete a", lambda: store.delete("a")),
    ]
    for operation, call in calls:
        assert "not found" not in fails(Fault, call, bucket, operation, word)
    store.tidy()  # only says that it may not
    assert uploads(owner, bucket) == []


def test_a_bucket_that_does_not_exist(s3_environment: dict[str, str]) -> None:
    store = s3.open_store("s3://no-such-bucket/prefix", "run", QUICK)
    for call in (
        lambda: store.put("a", b""),
        lambda: store.put("a", LARGE),
        lambda: store.get("a"),
        lambda: store.put_if("a", b"", None),
        store.list,
        lambda: store.delete("a"),
    ):
        fails(Fault, call, "S3 bucket no-such-bucket does not exist", "OUTPUT")


def test_credentials_that_are_missing(monkeypatch: pytest.MonkeyPatch, swift: Server, bucket: str) -> None:
    set_aws(monkeypatch, swift.endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    store = s3.open_store(f"s3://{bucket}", "run", QUICK)
    fails(Fault, lambda: store.get("a"), bucket, "no AWS credentials", "AWS_PROFILE")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    fails(Fault, lambda: s3.open_store(f"s3://{bucket}", "run", QUICK).get("a"), "AWS credentials are incomplete")
    monkeypatch.setenv("AWS_PROFILE", "canary-user")
    fails(Fault, lambda: s3.open_store(f"s3://{bucket}", "run", QUICK), "AWS_PROFILE")


def test_a_server_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_SESSION_TOKEN", "canary-token")
    set_aws(monkeypatch, f"http://canary-user:canary-password@127.0.0.1:{port}", Key("id", "canary-secret"))
    store = s3.open_store("s3://bucket", "run", BRIEF)
    fails(TemporaryFault, lambda: store.get("a"), "bucket", f"127.0.0.1:{port}")
    fails(TemporaryFault, lambda: store.put("a", b""), "bucket", f"127.0.0.1:{port}")
    fails(TemporaryFault, store.tidy, "bucket", f"127.0.0.1:{port}")


def test_a_host_name_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws(monkeypatch, "https://store.invalid", Key("id", "canary-secret"))
    store = s3.open_store("s3://bucket", "run", QUICK)
    fails(TemporaryFault, lambda: store.get("a"), "store.invalid cannot be reached")


def test_settings_that_are_no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws(monkeypatch, "canary-password")
    fails(Fault, lambda: s3.open_store("s3://bucket", "run", QUICK), "AWS_ENDPOINT_URL_S3")
    for output in ("s3://", "s3:///prefix", "s3://canary-user:canary-password@bucket/prefix"):
        fails(Fault, lambda output=output: open_store(output, "run"), "OUTPUT")  # type: ignore[misc]


def test_a_certificate_that_is_not_trusted(
    swift: Server, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty.pem").write_bytes(b"")
    for authority in (None, tmp_path / "empty.pem", tmp_path / "missing.pem"):
        set_aws(monkeypatch, swift.tls_endpoint, certificate=authority)
        store = s3.open_store(f"s3://{bucket}", "run", QUICK)
        fails(Fault, lambda store=store: store.get("a"), bucket, "cannot be verified", "AWS_CA_BUNDLE")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("configuration", "kind", "word"),
    [
        ("credential_process = /nonexistent canary-secret", Fault, "/nonexistent cannot be read"),
        ("credential_process = sh -c 'echo canary-secret >&2; exit 1'", TemporaryFault, "could not be obtained"),
        ("role_arn = arn:aws:iam::123456789012:role/x\nweb_identity_token_file = /nonexistent", Fault, "/nonexistent"),
        ("retry_mode = canary-user", Fault, "InvalidRetryModeError"),
        ("[canary-password", Fault, "ConfigParseError"),
    ],
)
def test_aws_files_that_do_not_serve(
    configuration: str, kind: type[Fault], word: str, swift: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_aws(monkeypatch, swift.endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "config").write_text(f"[default]\n{configuration}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    fails(kind, lambda: s3.open_store("s3://bucket", "run", QUICK).get("a"), "S3 bucket bucket", word)


# ---- multipart uploads that end early ----


def test_a_signal_in_a_multipart_upload_aborts_it(shaky: S3Store, owner: Any, bucket: str) -> None:
    def interrupt(params: dict[str, Any], **_: object) -> None:
        if params["query_string"]["partNumber"] == 2:
            raise KeyboardInterrupt

    shaky.requests.client.meta.events.register("before-call.s3.UploadPart", interrupt)
    with pytest.raises(KeyboardInterrupt):
        shaky.put("a", LARGE)
    assert uploads(owner, bucket) == []
    assert shaky.get("a") is None


def test_a_server_killed_in_a_multipart_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = s3_server.start(tmp_path / "swift")
    set_aws(monkeypatch, first.endpoint)
    client = s3_client(first)
    client.create_bucket(Bucket="bucket")
    store = s3.open_store("s3://bucket", "run", BRIEF)

    def kill(params: dict[str, Any], **_: object) -> None:
        if params["query_string"]["partNumber"] == 2:
            first.kill()

    store.requests.client.meta.events.register("before-call.s3.UploadPart", kill)
    fails(TemporaryFault, lambda: store.put("a", LARGE), "bucket", "store a")
    second = s3_server.start(tmp_path / "swift", first.port)
    try:
        assert uploads(client, "bucket") == ["run/a"]
        store.put("c", b"1")  # this process, once the store answers again
        assert uploads(client, "bucket") == []

        client.create_multipart_upload(Bucket="bucket", Key="run/b")
        s3.open_store("s3://bucket", "run2", QUICK).tidy()
        assert uploads(client, "bucket") == ["run/b"], "another run's upload is none of its business"
        s3.open_store("s3://bucket", "run", QUICK).tidy()  # another process, after this one is gone
        assert uploads(client, "bucket") == []
        assert store.list() == ["c"]
    finally:
        second.kill()


def test_an_upload_that_somebody_else_ended(shaky: S3Store, proxy: Proxy) -> None:
    proxy.rules = [Rule("answer", "PUT", having="partNumber=2", status=404, code="NoSuchUpload")]
    fails(TemporaryFault, lambda: shaky.put("a", LARGE), "ended by somebody else", "RUN_ID")


# ---- put_if on stores of other kinds ----


@pytest.mark.parametrize("kind", ["atomic", "unconditional", "heedless"])
@pytest.mark.parametrize("held", [False, True], ids=["free", "held by a dead owner"])
def test_one_of_two_wins_on_every_kind_of_store(shaky: S3Store, proxy: Proxy, kind: str, held: bool) -> None:
    won: list[bool] = []
    for slower in (1, 5, 25):  # on a busy machine both may be answered too late to be sure, and neither wins
        won = two_at_once(shaky, proxy, kind, held, slower)
        assert won.count(True) <= 1
        if any(won):
            break
    assert any(won)
    assert shaky.get("lock") == str(won.index(True)).encode()


def two_at_once(shaky: S3Store, proxy: Proxy, kind: str, held: bool, slower: int) -> list[bool]:
    """Who of two won. Both look before either writes, and the first has long been answered when the second one's write
    arrives.
    """
    proxy.rules = []
    limits = replace(QUICK, settle=1.0 * slower)
    stores = [s3.open_store(f"s3://{shaky.requests.place.bucket}", "run", limits) for _ in range(2)]
    shaky.delete("lock")
    if held:
        shaky.put("lock", b"of a dead owner")
    _, version = shaky.get_versioned("lock") or (b"", None)
    proxy.rules = [Rule(kind, times=1, delay=0.2 * slower), Rule(kind, delay=0.5 * slower)]
    if kind == "unconditional":  # each is refused once, then writes without its condition
        proxy.rules = [Rule(kind, times=2), *proxy.rules]
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(lambda me: stores[me].put_if("lock", str(me).encode(), version), range(2)))


def test_put_if_whose_answer_was_lost(shaky: S3Store, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    shaky.requests = replace(shaky.requests, limits=replace(QUICK, settle=60.0))  # a busy machine may take its time
    sleep = time.sleep
    monkeypatch.setattr("job.storage.s3.time", SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: sleep(0.1)))
    proxy.rules = [Rule("lost", times=1)]
    assert shaky.put_if("lock", b"mine", None)
    assert shaky.get("lock") == b"mine"
    assert not shaky.put_if("lock", b"yours", None)


def test_put_if_that_took_too_long_is_not_won(shaky: S3Store, proxy: Proxy) -> None:
    shaky.requests = replace(shaky.requests, limits=replace(QUICK, settle=0.1))
    proxy.rules = [Rule("slow")]
    assert not shaky.put_if("lock", bytes(300_000), None)


# ---- downloads ----


def read(url: str) -> bytes:
    content = b""
    with open_object(url) as stream:
        while chunk := stream.read1(1 << 16):
            content += chunk
        assert stream.length == len(content)
    return content


def test_open_object(s3_environment: dict[str, str], bucket: str, owner: Any) -> None:
    for key, content in {"a": b"", "b/c d.bin": SMALL}.items():
        owner.put_object(Bucket=bucket, Key=key, Body=content)
        assert read(f"s3://{bucket}/{key}") == content


def test_open_object_tells_what_is_wrong(
    swift: Server, bucket: str, owner: Any, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner.put_object(Bucket=bucket, Key="a", Body=SMALL)
    set_aws(monkeypatch, proxy.endpoint)
    with pytest.raises(FileNotFoundError, match=f"bucket {bucket} has no object b"):
        read(f"s3://{bucket}/b")
    with pytest.raises(PermissionError, match="no-such-bucket does not exist"):
        read("s3://no-such-bucket/a")
    with pytest.raises(PermissionError, match="DATA_URL"):
        read("s3:///a")
    for kind in ("answer", "reset"):
        proxy.rules = [Rule(kind, "GET")]
        with pytest.raises(ConnectionError, match=bucket):
            read(f"s3://{bucket}/a")
    proxy.rules = [Rule("half", "GET")]
    with pytest.raises(ConnectionError, match="cut off"):
        read(f"s3://{bucket}/a")
    set_aws(monkeypatch, swift.endpoint, STRANGER)
    with pytest.raises(PermissionError, match="not permitted"):
        read(f"s3://{bucket}/a")


def test_a_download_goes_on_to_the_next_mirror(
    tmp_path: Path, proxy: Proxy, bucket: str, owner: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get(*urls: str) -> None:
        fetch(
            urls,
            data_file(tmp_path / "file", hashlib.md5(SMALL).hexdigest(), len(SMALL)),
            bar=Progress("off").bar,
            open_s3=open_object,
            limits=DownloadLimits(timeout=30),
        )

    set_aws(monkeypatch, proxy.endpoint)
    owner.put_object(Bucket=bucket, Key="good", Body=SMALL)
    owner.put_object(Bucket=bucket, Key="cut", Body=SMALL)
    proxy.rules = [Rule("half", "GET", having="/cut")]
    get("s3://no-such-bucket/x", f"s3://{bucket}/missing", f"s3://{bucket}/cut", f"s3://{bucket}/good")
    assert (tmp_path / "file").read_bytes() == SMALL
    fails(
        TemporaryFault, lambda: get(f"s3://{bucket}/missing", f"s3://{bucket}/cut"), "has no object missing", "cut off"
    )
    fails(Fault, lambda: get(f"s3://{bucket}/missing", "s3://no-such-bucket/x"), "has no object missing")


# ---- the whole job ----


def test_a_job_publishes_to_a_bucket(tiny: Job, s3_tls_environment: dict[str, str], bucket: str, owner: Any) -> None:
    place = {"OUTPUT": f"s3://{bucket}/some/prefix", "RUN_ID": "run", "LEARNING_RATE": "0.001", "EPOCHS": "1"}
    done = tiny(**s3_tls_environment, **place)
    assert done.returncode == 0, done.stdout
    keys = {item["Key"] for item in owner.list_objects_v2(Bucket=bucket)["Contents"]}
    assert {f"some/prefix/run/{name}" for name in ("manifest.json", "weights.pt", "results.txt")} <= keys

    wrong = s3_tls_environment | {"AWS_SECRET_ACCESS_KEY": "canary-secret"}
    refused = tiny(**wrong, **place)
    assert refused.returncode == 78
    assert f"S3 bucket {bucket}: cannot read" in refused.stdout
    assert "canary-secret" not in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stdout + refused.stderr
