"""A role's credentials that do not come: a metadata service that is silent, that has none, or that is not there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from job.errors import Fault, TemporaryFault
from job.storage import open_store
from job.storage.s3_metadata import is_silent
from tests.helpers.s3_fixtures import NOTHING_OF_THIS_MACHINE


@contextmanager
def service(answer: bytes) -> Iterator[str]:
    """The address of one that answers so; nothing at all where that is empty."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        open_ones: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                open_ones.append(connection)
                if answer:
                    connection.recv(65536)
                    connection.sendall(answer)
                    connection.close()

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        for connection in open_ones:
            connection.close()


@pytest.fixture
def role(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No credentials but those of a machine's role."""
    for name, value in NOTHING_OF_THIS_MACHINE.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_EC2_METADATA_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    return monkeypatch


def fault(role: pytest.MonkeyPatch, endpoint: str) -> Fault:
    role.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
    with pytest.raises(Fault) as caught:
        open_store("s3://bucket/runs", "run", brief=True).get("a")
    return caught.value


def test_one_that_is_silent(role: pytest.MonkeyPatch) -> None:
    with service(b"") as endpoint:
        told = fault(role, endpoint)
    assert isinstance(told, TemporaryFault)
    assert "does not answer in time" in told.what
    assert "AWS_METADATA_SERVICE_TIMEOUT" in told.remedy
    assert "hop limit to 2" in told.remedy


def test_one_without_a_role(role: pytest.MonkeyPatch) -> None:
    with service(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") as endpoint:
        told = fault(role, endpoint)
    assert not isinstance(told, TemporaryFault)
    assert "there are no AWS credentials" in told.what


def test_none_at_all(role: pytest.MonkeyPatch) -> None:
    with service(b"") as endpoint:
        pass
    told = fault(role, endpoint)
    assert not isinstance(told, TemporaryFault)
    assert "there are no AWS credentials" in told.what
    role.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with service(b"") as silent:
        role.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", silent)
        assert not is_silent(0.1), "nobody is to ask it"
