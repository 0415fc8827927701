"""What a variable that names a place takes, and what is said of what was meant otherwise."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from job import settings
from job.errors import Fault
from job.settings.places import PLACES

BUCKETS = (
    "s3:/bucket/runs",
    "s3:bucket/runs",
    "s3//bucket/runs",
    "s3:///bucket/runs",
    "S3://bucket/runs",
    "s3a://bucket/runs",
)
WRONG = [
    *(("OUTPUT", value, r"did you mean s3://bucket/runs\?") for value in BUCKETS),
    *(("INPUT", value, r"did you mean s3://bucket/runs\?") for value in BUCKETS),
    *(("DATA_DIR", value, "goes into DATA_URL") for value in (*BUCKETS, "s3://bucket/runs", "https://host/x")),
    ("TENSORBOARD_DIR", "s3://bucket/logs", "only a directory of this machine serves"),
    ("PRETRAINED_WEIGHTS", "s3:/bucket/w.pth", r"did you mean s3://bucket/w.pth\?"),
    ("OUTPUT", "https://minio.example:9000/bucket", "goes into AWS_ENDPOINT_URL_S3"),
    ("OUTPUT", "s3://Bad_Bucket/x", "a bucket's name has 3 to 63"),
    ("OUTPUT", "gs://bucket/runs", "AWS_ENDPOINT_URL_S3=https://storage.googleapis.com"),
    ("OUTPUT", "gs:/bucket/runs", "AWS_ENDPOINT_URL_S3=https://storage.googleapis.com"),
    ("DATA_DIR", "gs://bucket/data", "gcsfuse"),
    ("OUTPUT", "az://container/runs", "blobfuse2"),
    ("OUTPUT", "abfss://container@account/runs", "blobfuse2"),
    ("DATA_DIR", "hf://datasets/cifar10", "hf download"),
    ("DATA_URL", "hf://datasets/cifar10/x.tar.gz", "https://huggingface.co/"),
    ("OUTPUT", "file:///results", "write the path alone: /results"),
    ("DATA_DIR", "file:/data", "write the path alone: /data"),
    ("INPUT", "file://home/me/x.png", r"did you mean file:///home/me/x.png\?"),
    ("INPUT", "htps://host/x.png", r"did you mean https://\?"),
    ("INPUT", "https:/host/x.png", r"did you mean https://host/x.png\?"),
    ("INPUT", "https://host/my photo.png", "write %20"),
    ("INPUT", "https://host/fotó.png", "fot%C3%B3.png"),
    ("INPUT", "https://host:port/x.png", "no number for its port"),
    ("INPUT", "https://", "no host"),
    ("OUTPUT", r"C:\results", "a Windows path"),
    ("DATA_DIR", "D:/data", "a Windows path"),
    ("DATA_DIR", r"\\server\share", "a Windows path"),
    (
        "DATA_URL",
        "https://a/x.tar.gz,s3:/bucket/x.tar.gz",
        r"s3:/bucket/x.tar.gz: .*did you mean s3://bucket/x.tar.gz\?",
    ),
    ("GITHUB_STEP_SUMMARY", "s3://bucket/x.md", "give a path"),
    ("OUTPUT", "~nobody-of-this-name/x", "no home directory"),
]
RIGHT = [
    ("OUTPUT", "s3://bucket", "s3://bucket"),
    ("OUTPUT", "s3://bucket/a b/ü", "s3://bucket/a b/ü"),
    ("OUTPUT", "s3", "s3"),
    ("OUTPUT", "s3/bucket", "s3/bucket"),
    ("OUTPUT", "run:1", "run:1"),
    ("OUTPUT", "a//b", "a//b"),
    ("OUTPUT", "~/outputs", "/home/me/outputs"),
    ("OUTPUT", "~", "/home/me"),
    ("DATA_DIR", "~/data", Path("/home/me/data")),
    ("INPUT", "photos/trip #3/x.png", "photos/trip #3/x.png"),
    ("INPUT", "https://host/x.png?sig=$a", "https://host/x.png?sig=$a"),
    ("INPUT", "s3://Old_Bucket/x.png", "s3://Old_Bucket/x.png"),
    ("DATA_URL", "https://a/x\n s3://b/y,\r\nfile:///c\n", ("https://a/x", "s3://b/y", "file:///c")),
    ("TENSORBOARD_DIR", "logs", Path("logs")),
]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in settings.variables():
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(("name", "value", "said"), WRONG)
def test_what_is_no_place_is_told(monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Fault, match="1 setting is wrong") as caught:
        settings.load()
    assert re.search(rf"  - {name}=.*{said}", str(caught.value)), str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize(("name", "value", "read"), RIGHT)
def test_a_place_is_what_was_meant(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(settings.load(), name.lower()) == read


def test_every_variable_that_names_a_place_is_in_the_table() -> None:
    """A path, or a word in its meaning that says so."""
    named = {
        name
        for name, field in settings.variables().items()
        if "Path" in str(field.annotation)
        or re.search(r"\b(s3|file, |file or URL|an address)\b", field.description or "")
    }
    assert named == set(PLACES)


def test_no_secret_in_what_was_miswritten(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in (
        "s3:/me:canary@bucket/x",
        "s3//me:canary@bucket/x",
        "https:/me:canary@host/x?sig=canary",
        "'s3://me:canary@b/x'",
    ):
        monkeypatch.setenv("OUTPUT", value)
        with pytest.raises(Fault) as caught:
            settings.load()
        assert "canary" not in str(caught.value)
