"""What answers where a store should be and is none: told as that, whatever it is and whoever asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from job.errors import Fault, TemporaryFault
from job.storage import ArtifactStore, open_store
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
