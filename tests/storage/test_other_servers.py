"""What answers where a store should be and is none: told as that, whatever it is and whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from job import settings
from job.errors import Fault, TemporaryFault
from job.runs.place import place_of
from job.storage import ArtifactStore, open_store, s3
from job.storage.s3 import S3Store
from job.storage.s3_faults import Place
from job.storage.s3_requests import Clients, Requests
from tests.conftest import Job
from tests.helpers.s3_fixtures import aws_variables, set_aws

PAGE = b"<!doctype html><title>Console</title><form>"
ANSWERS = {  # status, content type and body
    "a web console": (200, "text/html; charset=utf-8", PAGE),
    "a login": (401, "text/html", PAGE),
    "a proxy that forbids": (403, "text/html", PAGE),
    "no such page": (404, "text/html", PAGE),
    "another API": (200, "application/json", b'{"error": "no route"}'),
    "an API without that route": (404, "application/json", b'{"error": "no route"}'),
    "another XML": (200, "application/xml", b'<?xml version="1.0"?><rss><channel/></rss>'),
    "nothing": (200, "", b""),
}
CALLS: dict[str, Callable[[ArtifactStore], object]] = {
    "get": lambda store: store.get("a"),
    "list": lambda store: store.list(),
    "put": lambda store: store.put("a", b"1"),
    "put_if": lambda store: store.put_if("a", b"1", None),
    "put_known": lambda store: store.put_known("a", b"1", None),
}


SLOW = [pytest.param(mode, marks=pytest.mark.slow) for mode in ("run", "check")]


class Answering(ThreadingHTTPServer):
    """Gives everybody `answer`; `endpoint` is its address."""

    daemon_threads = True
    answer: tuple[int, str, bytes] = (200, "", b"")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *arguments: Any) -> None:
        """Who asked may have gone."""


class Handler(BaseHTTPRequestHandler):
    server: Answering
    protocol_version = "HTTP/1.1"

    def any_method(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, kind, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_DELETE = any_method

    def log_message(self, *arguments: Any) -> None:
        """Nobody reads it."""


@pytest.fixture(scope="module")
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("what", ANSWERS)
def test_it_is_told_as_no_store(server: Answering, monkeypatch: pytest.MonkeyPatch, what: str, call: str) -> None:
    set_aws(monkeypatch, server.endpoint)
    server.answer = ANSWERS[what]
    with pytest.raises(Fault, match="answers, but not as S3 does") as caught:
        CALLS[call](open_store("s3://bucket", "run"))
    assert not isinstance(caught.value, TemporaryFault)
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value)


def test_a_failing_proxy_s_page_may_pass(server: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aws(monkeypatch, server.endpoint)
    server.answer = (502, "text/html", PAGE)
    with pytest.raises(TemporaryFault):
        open_store("s3://bucket", "run", brief=True).get("a")


@pytest.mark.parametrize("mode", [*SLOW, "summary", "verify", "predict", "export"])
def test_in_every_mode(server: Answering, main: Job, mode: str) -> None:
    server.answer = ANSWERS["a web console"]
    variables = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "200", "DEVICE": "cpu", "INPUT": "nothing.png"}
    ended = main(**variables, **aws_variables(server.endpoint), OUTPUT="s3://bucket/runs", MODE=mode)
    assert ended.returncode == 78
    assert "answers, but not as S3 does" in " ".join((ended.stdout + ended.stderr).split())
    assert "Traceback" not in ended.stderr


# ---- encryption that a policy demands ----


class Demanding(Handler):
    """A store that takes what asks for encryption by `KEY` alone, and remembers what was asked."""

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asked = self.headers.get("x-amz-server-side-encryption"), self.headers.get(f"{KMS}-aws-kms-key-id")
        status, code, words = 200, "", ""
        if asked[0] != "aws:kms":
            status, code, words = (
                403,
                "AccessDenied",
                "not authorized ... with an explicit deny in a resource-based policy",
            )
        elif asked[1] != "alias/runs":
            status, code, words = 400, "KMS.NotFoundException", "Alias is not found"
        body = f"<Error><Code>{code}</Code><Message>{words}</Message></Error>".encode() if code else b""
        self.send_response(status)
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


KMS = "x-amz-server-side-encryption"
ASKED = {"S3_SSE": "aws:kms", "S3_SSE_KMS_KEY_ID": "alias/runs"}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({}, "a policy of the bucket denies it"),
        ({"S3_SSE": "AES256"}, "a policy of the bucket denies it"),
        (ASKED | {"S3_SSE_KMS_KEY_ID": "alias/other"}, "the key that is to encrypt it cannot be used"),
        (ASKED, ""),
    ],
)
def test_encryption_that_a_policy_demands(monkeypatch: pytest.MonkeyPatch, given: dict[str, str], told: str) -> None:
    with Answering(("127.0.0.1", 0), Demanding) as demanding:
        threading.Thread(target=demanding.serve_forever, daemon=True).start()
        set_aws(monkeypatch, demanding.endpoint)
        for name, value in ({"OUTPUT": "s3://bucket/runs"} | given).items():
            monkeypatch.setenv(name, value)
        store = place_of(settings.load(), "run").guarded(lambda: None, 1.0)  # as an owner has it
        if told:
            with pytest.raises(Fault, match=told) as caught:
                store.put("a", b"1")
            assert "S3_SSE" in str(caught.value)
        else:
            store.put("a", b"1")
            store.put_known("a", b"1", None)
        demanding.shutdown()


def test_parts_are_encrypted_too(owner: Any, bucket: str) -> None:
    """What a multipart upload begins with carries it as well, which decides for all of its parts."""
    sent: list[dict[str, Any]] = []
    owner.meta.events.register(
        "before-parameter-build.s3", lambda params, model, **_: sent.append({model.name: params})
    )
    requests = Requests(Clients(owner, owner), Place(bucket, "OUTPUT", ""), s3.Limits(part=5 << 20))
    store = S3Store(requests, "run").encrypted({"ServerSideEncryption": "AES256"})
    with suppress(Fault):  # this store knows no such thing
        store.put("a", bytes(6 << 20))
    (begun,) = [each["CreateMultipartUpload"] for each in sent if "CreateMultipartUpload" in each]
    assert begun["ServerSideEncryption"] == "AES256"
