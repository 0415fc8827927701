"""Fixtures with a real S3 store: one server for each test process, a bucket for each test."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import botocore.retries.standard
import pytest
from botocore.config import Config

from tests.helpers import fault_proxy, s3_server
from tests.helpers.s3_server import OWNER, REGION, Key, Server

NUMBERS = itertools.count()
NOTHING_OF_THIS_MACHINE = {
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
}


@pytest.fixture(scope="session", autouse=True)
def no_aws_of_this_machine() -> Iterator[None]:
    """Tests find no store and no credentials but those that they set up."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in NOTHING_OF_THIS_MACHINE.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server. A test that needs it fails loudly where it cannot start."""
    directory = tmp_path_factory.mktemp("swift")
    server = s3_server.start(directory)
    yield server
    server.kill()
    shutil.rmtree(directory, ignore_errors=True)  # pytest keeps what is left there for days


@pytest.fixture
def proxy(swift: Server) -> Iterator[fault_proxy.Proxy]:
    """A proxy before the server, without rules yet. Make the store with its endpoint."""
    with fault_proxy.proxy(swift) as running:
        yield running


@pytest.fixture
def tls_proxy(swift: Server) -> Iterator[fault_proxy.Proxy]:
    """The same over TLS, with the server's certificate."""
    with fault_proxy.proxy(swift, tls=True) as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def botocore_is_quick() -> None:
    """What adds up over hundreds of stores: botocore parses its description of S3 anew for each session, and waits up
    to a second before it sends a request again.
    """
    load = functools.cache(botocore.loaders.JSONFileLoader().load_file)
    botocore.loaders.JSONFileLoader.load_file = lambda _, path: load(path)
    botocore.retries.standard.ExponentialBackoff.delay_amount = lambda *_: 0.02


@pytest.fixture(scope="session")
def owner(swift: Server) -> Any:
    """The owner's own client, to set up and to look at what a store under test has done."""
    return s3_client(swift)


@pytest.fixture
def bucket(owner: Any) -> str:
    """The name of a new, empty bucket."""
    name = f"bucket-{next(NUMBERS)}"
    owner.create_bucket(Bucket=name)
    return name


@pytest.fixture
def s3_environment(swift: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The AWS variables for the server over plain HTTP, set here and given for subprocesses."""
    return set_aws(monkeypatch, swift.endpoint)


@pytest.fixture
def s3_tls_environment(swift: Server, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The same over TLS, with a certificate that only AWS_CA_BUNDLE makes trusted."""
    return set_aws(monkeypatch, swift.tls_endpoint, certificate=swift.certificate)


def aws_variables(endpoint: str, key: Key = OWNER) -> dict[str, str]:
    """What boto3 reads from the environment to use a store at `endpoint`."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": key.id,
        "AWS_SECRET_ACCESS_KEY": key.secret,
        "AWS_REGION": REGION,
    }


def set_aws(
    monkeypatch: pytest.MonkeyPatch, endpoint: str, key: Key = OWNER, certificate: Path | None = None
) -> dict[str, str]:
    """Sets the AWS variables for a store at `endpoint`. Gives all that a subprocess needs, too."""
    variables = aws_variables(endpoint, key)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    if certificate:
        variables["AWS_CA_BUNDLE"] = str(certificate)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return NOTHING_OF_THIS_MACHINE | variables


def s3_client(server: Server, endpoint: str | None = None) -> Any:
    """A client with boto3's defaults and the server's owner."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        aws_access_key_id=OWNER.id,
        aws_secret_access_key=OWNER.secret,
        region_name=REGION,
        config=Config(s3={"addressing_style": "path"}),
    )
