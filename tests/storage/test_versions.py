"""A bucket that keeps versions is told by MODE=check; one that does not, or does not say, is no finding."""

from __future__ import annotations

import threading
from http.server import ThreadingHTTPServer

import pytest

from job import settings
from job.preflight.store import probe
from tests.storage.test_region import REFUSED, REGION, Store, aws

XMLNS = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
KEEPS = "the bucket keeps versions"


class Versioned(Store):
    status: int
    says: bytes

    def handle_request(self) -> None:
        if self.path.endswith("?versioning"):
            self.answer(self.status, self.says)
        else:
            super().handle_request()

    do_GET = do_PUT = do_DELETE = handle_request


@pytest.mark.parametrize(
    ("status", "says", "kept"),
    [
        (200, f"<VersioningConfiguration {XMLNS}><Status>Enabled</Status></VersioningConfiguration>".encode(), True),
        (200, f"<VersioningConfiguration {XMLNS}><Status>Suspended</Status></VersioningConfiguration>".encode(), False),
        (200, f"<VersioningConfiguration {XMLNS}/>".encode(), False),
        (403, REFUSED.replace(b"AuthorizationHeaderMalformed", b"AccessDenied"), False),
        (501, REFUSED.replace(b"AuthorizationHeaderMalformed", b"NotImplemented"), False),
    ],
    ids=["enabled", "suspended", "never", "denied", "unknown"],
)
def test_a_bucket_that_keeps_versions(monkeypatch: pytest.MonkeyPatch, status: int, says: bytes, kept: bool) -> None:
    handler = type("OneStore", (Versioned,), {"objects": {}, "seen": set(), "status": status, "says": says})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name, value in aws(f"http://127.0.0.1:{server.server_port}").items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
        findings = probe(settings.load())
        server.shutdown()
    assert "written, read back and deleted" in str(findings[0])
    assert [KEEPS in str(finding) for finding in findings[1:]] == [True] * kept
