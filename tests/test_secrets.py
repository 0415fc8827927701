"""Twenty-odd secrets in the job's environment, and every way it can end: none shows in a log, a result or a status."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY, Job
from tests.helpers import chaos
from tests.helpers.s3_fixtures import NOTHING_OF_THIS_MACHINE, aws_variables
from tests.helpers.s3_server import OWNER, Key, Server

NUMBERS = itertools.count()


def secret() -> str:
    return f"canary{next(NUMBERS):02d}x"


def address(host: str) -> str:
    """An address with a user, a password and a token, as people put them into variables."""
    return f"http://{secret()}:{secret()}@{host}?token={secret()}"


CLOSED = "127.0.0.1:9"  # nobody listens there
KEY = Key(f"AKIA{secret()}", secret())
AROUND = {  # of the platform and of other programs: never the job's business, so never to be shown
    "KAGGLE_KEY": secret(),
    "GITHUB_TOKEN": secret(),
    "AWS_CONTAINER_AUTHORIZATION_TOKEN": secret(),
    "MLFLOW_TRACKING_PASSWORD": secret(),
}
MIRRORS = {"DATASET": "cifar10", "DATA_URL": ",".join(address(f"{CLOSED}/{name}.tar.gz") for name in "ab")}
WEIGHTS = {"MODEL": "resnet18_pretrained", "PRETRAINED_WEIGHTS": address(f"{CLOSED}/weights.pth")}
ENDPOINT = {**aws_variables(f"http://{secret()}:{secret()}@{CLOSED}", KEY), "AWS_SESSION_TOKEN": secret()}
PROXY = {"HTTP_PROXY": f"http://{secret()}:{secret()}@{CLOSED}", "NO_PROXY": ""}
PROFILE = f"[default]\naws_access_key_id = AKIA{secret()}\naws_secret_access_key = {secret()}\n"
TOKEN = secret()
ALL = [f"canary{number:02d}x" for number in range(next(NUMBERS))]


def test_there_are_twenty() -> None:
    assert len(ALL) >= 20


@pytest.fixture
def ends(tmp_path: Path, swift: Server, bucket: str) -> Mapping[str, tuple[dict[str, str], int, str]]:
    """Name → variables, exit code, and a word that proves the job came as far as it should."""
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 9)) != 0, "port 9 must be closed"
    (tmp_path / "credentials").write_text(PROFILE)
    (tmp_path / "token").write_text(TOKEN)
    on_store = {"OUTPUT": f"s3://{bucket}/prefix"}
    real = aws_variables(swift.endpoint)
    without_key = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    role = {"AWS_ROLE_ARN": "arn:aws:iam::1:role/a", "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")}
    other_scheme = {"DATA_URL": MIRRORS["DATA_URL"].replace("http:", "ftp:")}
    unused = {"DATA_URL": MIRRORS["DATA_URL"], "PRETRAINED_WEIGHTS": WEIGHTS["PRETRAINED_WEIGHTS"]}
    sts = {"AWS_ENDPOINT_URL_STS": f"http://{CLOSED}"}
    return {
        "wrong settings": (MIRRORS | WEIGHTS | other_scheme, 78, "DATA_URL"),
        "no mirror": (MIRRORS, 78, CLOSED),
        "no photographs": (MIRRORS | {"DATASET": "folder"}, 78, CLOSED),
        "no bucket of photographs": ({"DATASET": "folder", "DATA_URL": f"s3://{bucket}/x"} | ENDPOINT, 75, CLOSED),
        "no weights": (WEIGHTS, 78, "PRETRAINED_WEIGHTS"),
        "no store": (on_store | ENDPOINT, 75, CLOSED),
        "unknown key": (on_store | ENDPOINT | {"AWS_ENDPOINT_URL_S3": swift.endpoint}, 78, bucket),
        "wrong secret": (on_store | real | {"AWS_SECRET_ACCESS_KEY": KEY.secret}, 78, "AWS_SECRET_ACCESS_KEY"),
        "no proxy": (on_store | real | PROXY, 75, "proxy"),
        "unknown profile": (
            on_store | real | without_key | {"AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials")},
            78,
            bucket,
        ),
        "no role": (on_store | real | without_key | role | sts, 75, bucket),
        "finished": (on_store | real | unused, 0, "finished"),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_no_secret_shows(
    job: Job, tmp_path: Path, ends: Mapping[str, Any], owner: Any, bucket: str, log_format: str
) -> None:
    for name, (variables, code, told) in ends.items():
        done = job(**(NOTHING_OF_THIS_MACHINE | TINY | AROUND | variables | {"LOG_FORMAT": log_format}))
        said = done.stdout + done.stderr
        assert done.returncode == code, f"{name}: {said}"
        assert told in said, name
        assert "Traceback" not in said, name
        for listed in owner.list_objects_v2(Bucket=bucket).get("Contents", []):
            said += owner.get_object(Bucket=bucket, Key=listed["Key"])["Body"].read().decode(errors="replace")
        for file in chaos.directory_files(tmp_path).items():
            if file[0] not in ("credentials", "token"):
                said += file[1].decode(errors="replace")
        shown = [canary for canary in [*ALL, OWNER.secret] if canary in said]
        assert not shown, f"{name}: {shown}"
    assert json.loads((next((tmp_path / "outputs").glob("*/status.json"))).read_text())["last_error"]
