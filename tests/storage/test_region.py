"""The signature's region: a store that takes one region alone, and sends no other back, as several do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from tests.conftest import TINY, Job

REGION = "eu-west-3"
REFUSED = b"<Error><Code>AuthorizationHeaderMalformed</Code><Message>the region is wrong</Message></Error>"
MISSING = b"<Error><Code>NoSuchKey</Code><Message>not there</Message></Error>"
EMPTY = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><IsTruncated>false</IsTruncated></ListBucketResult>'


class Store(BaseHTTPRequestHandler):
    """Objects in memory, for whoever signs for REGION."""

    objects: dict[str, tuple[bytes, dict[str, str]]]
    seen: set[str]
    protocol_version = "HTTP/1.1"

    def handle_request(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        region = re.search(r"Credential=[^/]+/\d+/([^/]+)/s3/", self.headers.get("Authorization", ""))
        self.seen.add(region[1] if region else "none")
        path = self.path.partition("?")[0]
        if region is None or region[1] != REGION:
            self.answer(400, REFUSED)
        elif self.command == "PUT":
            kept = {name: value for name, value in self.headers.items() if name.lower().startswith("x-amz-meta-")}
            self.objects[path] = (body, kept)
            self.answer(200, b"", {"ETag": '"1"'})
        elif self.command == "DELETE":
            self.objects.pop(path, None)
            self.answer(204, b"")
        elif path.count("/") == 1:
            self.answer(200, EMPTY)
        elif path in self.objects:
            content, kept = self.objects[path]
            self.answer(200, content, {"ETag": '"1"', **kept})
        else:
            self.answer(404, MISSING)

    do_GET = do_PUT = do_DELETE = handle_request

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def store() -> Iterator[tuple[str, set[str]]]:
    handler = type("OneStore", (Store,), {"objects": {}, "seen": set()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.seen  # type: ignore[attr-defined]
        server.shutdown()


@pytest.mark.usefixtures("short_measurements")
@pytest.mark.parametrize(
    "region",
    [
        {"AWS_REGION": REGION},
        {"AWS_DEFAULT_REGION": REGION},
        {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": "us-east-1"},
        {"AWS_REGION": "", "AWS_DEFAULT_REGION": REGION},
    ],
    ids=lambda region: "+".join(region),
)
def test_the_region_is_signed_for(main: Job, region: dict[str, str]) -> None:
    with store() as (endpoint, seen):
        done = main(**TINY, **aws(endpoint), **region, MODE="check")
    assert seen == {REGION}
    assert done.returncode == 0, done.stdout


@pytest.mark.usefixtures("short_measurements")
def test_another_region_is_told_with_its_variable(main: Job) -> None:
    with store() as (endpoint, seen):
        done = main(**TINY, **aws(endpoint), AWS_REGION="us-east-1", MODE="check")
    assert seen == {"us-east-1"}
    assert done.returncode == 78
    assert "the bucket is in another region" in done.stdout
    assert "AWS_REGION" in done.stdout


def aws(endpoint: str) -> dict[str, str]:
    return {
        "OUTPUT": "s3://bucket/runs",
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
