"""The same on a bucket: every attempt starts on an empty disk, as on a new machine."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import run_here
from tests.helpers import chaos

CANARIES = ("canary-one", "canary-two", "canary-three", "canary-four")


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "kills"), [(signal.SIGKILL, 1), (signal.SIGTERM, 2)])
def test_killed_and_resumed_on_an_empty_disk(
    twin: tuple[dict[str, bytes], float],
    s3_environment: dict[str, str],
    owner: Any,
    bucket: str,
    signum: int,
    kills: int,
) -> None:
    report = chaos.chaos(
        kills,
        s3_environment,
        *twin,  # the lock and the uploads take their time
        lambda place, home: chaos.bucket_files(owner, place),
        output=lambda number, home: f"s3://{bucket}/job-{number}",
        seed=2,
        signum=signum,
        empty_disk=True,
    )
    assert report.different == []
    assert report.kills == kills
    assert report.slowest_stop < chaos.IN_TIME
    names = set(chaos.bucket_files(owner, f"s3://{bucket}/job-{report.jobs}"))
    assert "manifest.json" in names
    assert "lock.json" not in names
    assert owner.list_multipart_uploads(Bucket=bucket).get("Uploads", []) == []


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"OUTPUT": "s3://nobodys-bucket/prefix"}, 78, "nobodys-bucket"),
        ({"AWS_SECRET_ACCESS_KEY": "canary-one"}, 78, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": "canary-two", "AWS_SESSION_TOKEN": "canary-three"}, 78, "AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, 75, "127.0.0.1:9"),
        ({"PRETRAINED_WEIGHTS": "https://me:canary-four@127.0.0.1:9/w.pth", "MODEL": "resnet18_pretrained"}, 78, ""),
        ({"PRETRAINED_WEIGHTS": "https://me:canary-four@127.0.0.1/w.pth", "MODEL": "resnet18_pretrained"}, 78, ""),
        ({"DATA_URL": "https://me:canary-four@127.0.0.1/a.tar.gz?key=canary-one", "DATASET": "cifar10"}, 78, "mirror"),
    ],
)
def test_a_store_that_does_not_serve(
    s3_environment: dict[str, str],
    owner: Any,
    bucket: str,
    tmp_path: Path,
    change: dict[str, str],
    code: int,
    told: str,
) -> None:
    """One clear line, the right exit code, nothing published, and no secret anywhere."""
    variables = {"OUTPUT": f"s3://{bucket}/prefix"} | s3_environment | change
    done = run_here(tmp_path, **chaos.SMALL | variables)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    fault = json.loads([line for line in said.splitlines() if '"event": "fault"' in line][-1])
    assert told in fault["message"]
    assert "Traceback" not in said
    left = chaos.bucket_files(owner, f"s3://{bucket}/prefix")
    assert "manifest.json" not in left
    secrets = (*CANARIES, s3_environment["AWS_SECRET_ACCESS_KEY"])
    for place in (said, *(content.decode(errors="replace") for content in left.values())):
        assert not [secret for secret in secrets if secret in place]
