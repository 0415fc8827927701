"""Variables of other programs: what only gets in the way is put right, garbage is told in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from botocore.exceptions import BotoCoreError

from job import settings
from job.errors import Fault
from job.settings import foreign
from tests.conftest import Job

GARBAGE = [
    ("SOURCE_DATE_EPOCH", "yesterday", "must be a whole number of seconds"),
    ("PYTORCH_CUDA_ALLOC_CONF", "garbage", "must be key:value"),
    ("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb=128", "must be key:value"),
    ("PYTORCH_CUDA_ALLOC_CONF", '"expandable_segments:True"', "must be key:value"),
    ("PYTORCH_ALLOC_CONF", "garbage", "must be key:value"),
    ("TQDM_MININTERVAL", "often", "must be a number"),
    ("TQDM_NCOLS", "wide", "must be a whole number"),
    ("TORCH_LOGS", "garbage", "torch knows no such log"),
]
OF_S3 = [
    ("AWS_ENDPOINT_URL_S3", '"https://minio.example"', "such as https://minio.example:9000"),
    ("AWS_ENDPOINT_URL_S3", "minio.example:9000", "such as https://minio.example:9000"),
    ("AWS_ENDPOINT_URL", "https://minio.example\n", "such as https://minio.example:9000"),
    ("AWS_REGION", "eu-west-3 # Paris", "must be a region's name"),
    ("AWS_SECRET_ACCESS_KEY", "canary\n", "must stand alone"),
    ("AWS_ACCESS_KEY_ID", "'canary'", "must stand alone"),
    ("AWS_DEFAULT_REGION", "eu west 3", "must be a region's name"),
    ("AWS_ENDPOINT_URL", "garbage", "such as https://minio.example:9000"),
    ("AWS_MAX_ATTEMPTS", "many", "must be a whole number"),
    ("AWS_METADATA_SERVICE_TIMEOUT", "x", "must be a whole number"),
    ("AWS_METADATA_SERVICE_NUM_ATTEMPTS", "0", "must be a whole number"),
    ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "x", "must be an address"),
    ("AWS_RETRY_MODE", "often", "legacy, standard, adaptive"),
    ("AWS_REQUEST_CHECKSUM_CALCULATION", "never", "when_supported, when_required"),
]


@pytest.mark.parametrize(("name", "value", "rule"), GARBAGE)
def test_garbage_is_one_line(job: Job, name: str, value: str, rule: str) -> None:
    done = job(**{name: value}, DATASET="synthetic", DEVICE="cpu")
    assert done.returncode == 78, done.stdout + done.stderr
    assert f"{name}={value}: " in done.stdout
    assert rule in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "frame #" not in done.stderr


def test_proxies_and_certificates_that_cannot_serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "socks5://user:canary@proxy:1080")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(Fault) as caught:
        settings.load()
    assert "HTTPS_PROXY: must be the address of an HTTP proxy; SOCKS is not supported" in str(caught.value)
    assert "gone.pem: there is no such file of certificate authorities" in str(caught.value)
    assert "canary" not in str(caught.value)


def test_certificates_named_for_others_serve_s3(tmp_path: Path) -> None:
    environment = {"SSL_CERT_FILE": "mine.pem"}
    foreign.settle(environment)
    assert environment["AWS_CA_BUNDLE"] == "mine.pem"
    environment |= {"AWS_CA_BUNDLE": "store.pem"}
    foreign.settle(environment)
    assert environment["AWS_CA_BUNDLE"] == "store.pem"


def test_threads_that_wait_leave_the_core_to_others() -> None:
    """As libgomp itself says, in a process that begins as the job does; whoever decides otherwise is obeyed."""
    begin = "import os; from job.settings import foreign; foreign.settle(os.environ); import torch"
    shown = {**os.environ, "OMP_DISPLAY_ENV": "verbose"}
    said = subprocess.run([sys.executable, "-c", begin], env=shown, capture_output=True, text=True, check=True).stderr
    assert "GOMP_SPINCOUNT = '1000'" in said
    for theirs in ({"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "7"}):
        environment = dict(theirs)
        foreign.settle(environment)
        assert environment == theirs


@pytest.mark.parametrize(("name", "value", "rule"), OF_S3)
def test_aws_variables_are_looked_at_where_a_bucket_is_used(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    monkeypatch.setenv(name, value)
    settings.load()
    monkeypatch.setenv("OUTPUT", "s3://bucket/runs")
    with pytest.raises(Fault, match="1 setting is wrong") as caught:
        settings.load()
    assert name in str(caught.value)
    assert rule in str(caught.value)
    assert "canary" not in str(caught.value)
    monkeypatch.setenv("MODE", "check")
    assert list(settings.faults()) == [name]


def test_what_botocore_refuses_is_told_before_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """All variables that it knows, with garbage: what stops it, and names nothing or only itself, is refused before."""
    session = botocore.session.get_session()
    known = [entry[1] for entry in session.SESSION_VARIABLES.values()]
    names = {name for entry in known for name in ([entry] if isinstance(entry, str) else entry or ())}
    refused = set()
    for name in sorted({*names, *foreign.OF_S3}):
        with monkeypatch.context() as patch:
            patch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
            patch.setenv(name, "x y")
            try:
                botocore.session.get_session().create_client("s3", aws_access_key_id="a", aws_secret_access_key="b")
            except (BotoCoreError, ValueError):
                refused.add(name)
    by_their_file = {"AWS_PROFILE", "AWS_DEFAULT_PROFILE"}  # told by the store, which looks into ~/.aws
    assert "AWS_DEFAULTS_MODE" in refused
    assert refused - by_their_file <= foreign.OF_S3.keys()


@pytest.mark.parametrize(
    "value",
    [
        "expandable_segments:True",
        "max_split_size_mb:128, garbage_collection_threshold:0.8",
        "roundup_power2_divisions:[256:1,>:2]",
    ],
)
def test_what_torch_takes_is_taken(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", value)
    settings.load()


def test_a_notebooks_cell_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what Jupyter's launcher sets, and by what every kernel does (VS Code launches without the former)."""
    for name in ("JPY_PARENT_PID", "TERM", "PAGER", "GIT_PAGER"):
        monkeypatch.delenv(name, raising=False)
    assert not settings.in_notebook()
    monkeypatch.setenv("PAGER", "cat")
    monkeypatch.setenv("GIT_PAGER", "cat")
    assert not settings.in_notebook()
    monkeypatch.setenv("TERM", "xterm-color")
    assert settings.in_notebook()
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("JPY_PARENT_PID", "7")
    assert settings.in_notebook()


def test_settling() -> None:
    environment = {"AWS_PROFILE": "", "AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "us-east-1", "MPLBACKEND": "x"}
    foreign.settle(environment)
    assert environment == {"AWS_REGION": "eu-west-3", "AWS_DEFAULT_REGION": "eu-west-3", "GOMP_SPINCOUNT": "1000"}
    foreign.settle(only := {"AWS_DEFAULT_REGION": "us-west-2", "AWS_REGION": ""})
    assert only == {"AWS_DEFAULT_REGION": "us-west-2", "GOMP_SPINCOUNT": "1000"}
