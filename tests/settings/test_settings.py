"""Settings: every fault at once, each with variable, value and what is allowed; never a secret; never torch."""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from job import settings
from job.errors import Fault
from tests.conftest import Job


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper() in {own.upper() for own in settings.variables()}:
            monkeypatch.delenv(name)


def told(monkeypatch: pytest.MonkeyPatch, **variables: str) -> str:
    """What a person reads for these variables; each must be a fault."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Fault) as caught:
        settings.load()
    assert caught.value.exit_code == 78
    return str(caught.value)


BAD = [
    ({"MODE": "runn"}, r"MODE=runn: choose from: run.*did you mean run\?"),
    ({"MODEL": "resnet"}, r"MODEL=resnet: choose from: cnn, mlp, .*did you mean resnet18\?"),
    ({"MODEL": "CNN"}, r"MODEL=CNN: .*did you mean cnn\?"),
    ({"MODEL": "../cnn"}, r"MODEL=\.\./cnn: choose from"),
    ({"DATASET": "cifar"}, r"DATASET=cifar: choose from: cifar10, folder, synthetic.*did you mean cifar10\?"),
    ({"DATASET": "imagenet"}, r"DATASET=imagenet: choose from"),
    ({"DATA_URL": "ftp://host/file"}, r"DATA_URL=ftp://host/file: ftp:// is not understood here: give http\(s\)://"),
    ({"DATA_URL": "https://a/b, c.tar.gz"}, r"DATA_URL=.*: c\.tar\.gz: give http\(s\)://"),
    ({"DATA_URL": "https://a/my images.tar.gz"}, r"DATA_URL=.*: images\.tar\.gz: give http\(s\)://"),
    ({"DATA_URL": "https:/host/x.tar.gz"}, r"DATA_URL=https:/host/x\.tar\.gz: "),
    ({"DATA_URL": "https://[host/x.tar.gz"}, r"DATA_URL="),
    ({"MODEL": "resnet18_pretrained", "PRETRAINED_WEIGHTS": "https://a/my weights.pth"}, r"PRETRAINED_WEIGHTS=.*blank"),
    ({"DATA_LIMIT": "-5"}, r"DATA_LIMIT=-5: .*at least 10"),
    ({"DATA_LIMIT": "0"}, r"DATA_LIMIT=0: .*at least 10"),
    ({"DATA_LIMIT": "many"}, r"DATA_LIMIT=many: must be a whole number, at least 10"),
    ({"DATA_LIMIT": "100.5"}, r"DATA_LIMIT=100\.5: must be a whole number"),
    ({"TUNE_PERCENT": "0.2"}, r"TUNE_PERCENT=0\.2: it is a percentage, .* write 20\b"),
    ({"TUNE_PERCENT": "0"}, r"TUNE_PERCENT=0: .*at least 1 and at most 100"),
    ({"TUNE_PERCENT": "120"}, r"TUNE_PERCENT=120: .*at most 100"),
    ({"TUNE_PERCENT": "20%"}, r"TUNE_PERCENT=20%: must be a number, at least 1 and at most 100"),
    ({"TUNE_PERCENT": "nan"}, r"TUNE_PERCENT=nan"),
    ({"MAX_EVALS": "0"}, r"MAX_EVALS=0: .*at least 1"),
    ({"MAX_EVALS": "ten"}, r"MAX_EVALS=ten: must be a whole number"),
    ({"MAX_EVALS": "1000000"}, r"MAX_EVALS=1000000: .*at most 10000"),
    ({"MAX_EVAL": "5"}, r"MAX_EVAL: there is no such variable; did you mean MAX_EVALS\?"),
    ({"PATIENC": "3"}, r"PATIENC: .*did you mean PATIENCE\?"),
    ({"BATCHSIZE": "64"}, r"BATCHSIZE: .*did you mean BATCH_SIZE\?"),
    ({"LEARNING_RATES": "1"}, r"LEARNING_RATES: .*did you mean LEARNING_RATE\?"),
    ({"EPOCH": "3"}, r"EPOCH: .*did you mean EPOCHS\?"),
    ({"TUNE_PRECENT": "10"}, r"TUNE_PRECENT: .*did you mean TUNE_PERCENT\?"),
    ({"DATADIR": "x"}, r"DATADIR: .*did you mean DATA_DIR\?"),
    ({"MDOEL": "cnn"}, r"MDOEL: .*did you mean MODEL\?"),
    ({"OUTPUTS": "x"}, r"OUTPUTS: .*did you mean OUTPUT\?"),
    ({"TUNE_MAX_EPOCHS": "0"}, r"TUNE_MAX_EPOCHS=0: .*at least 1"),
    ({"PATIENCE": "0"}, r"PATIENCE=0: .*at least 1"),
    ({"PATIENCE": "-1"}, r"PATIENCE=-1: .*at least 1"),
    ({"LR_MIN": "0"}, r"LR_MIN=0: .*greater than 0"),
    ({"LR_MIN": "1e-2", "LR_MAX": "1e-3"}, r"LR_MAX=1e-3: must be greater than LR_MIN \(0\.01\)"),
    ({"LR_MIN": "0.5"}, r"LR_MAX: must be greater than LR_MIN"),
    ({"LR_MAX": "inf"}, r"LR_MAX=inf"),
    ({"TUNE_STARTUP_TRIALS": "0"}, r"TUNE_STARTUP_TRIALS=0: .*at least 1"),
    ({"LEARNING_RATE": "0.001"}, r"EPOCHS: LEARNING_RATE is set but EPOCHS is not: give both"),
    ({"EPOCHS": "5"}, r"EPOCHS=5: EPOCHS is set but LEARNING_RATE is not: give both"),
    ({"LEARNING_RATE": "-1", "EPOCHS": "5"}, r"LEARNING_RATE=-1: .*greater than 0"),
    ({"LEARNING_RATE": "0.1", "EPOCHS": "0"}, r"EPOCHS=0: .*at least 1"),
    ({"BATCH_SIZE": "0"}, r"BATCH_SIZE=0: .*at least 1"),
    ({"BATCH_SIZE": "1e9"}, r"BATCH_SIZE=1e9"),
    ({"SEED": "-1"}, r"SEED=-1: .*at least 0"),
    ({"SEED": "abc"}, r"SEED=abc: must be a whole number"),
    ({"DEVICE": "gpu"}, r"DEVICE=gpu: choose auto, cuda, cuda:N"),
    ({"DEVICE": "cuda:x"}, r"DEVICE=cuda:x: choose"),
    ({"PRECISION": "float16"}, r"PRECISION=float16: choose from: auto, fp32, bf16, fp16"),
    ({"WORKERS": "0"}, r"WORKERS=0: choose auto or a whole number from 1 to 9999"),
    ({"WORKERS": "two"}, r"WORKERS=two: choose auto or a whole number"),
    ({"RAY_ADDRESS": "http://head:8265"}, r"RAY_ADDRESS=http://head:8265: choose auto, host:port or ray://host:port"),
    ({"OUTPUT": "s3://"}, r"OUTPUT=s3://: give a directory or s3://bucket/prefix"),
    ({"OUTPUT": "s3://Bad_Bucket/x"}, r"OUTPUT=s3://Bad_Bucket/x: give a directory"),
    ({"OUTPUT": "gs://bucket"}, r"OUTPUT=gs://bucket: Google Cloud Storage answers as S3 does"),
    ({"RUN_ID": "../escape"}, r"RUN_ID=\.\./escape: use up to 100 letters"),
    ({"RUN_ID": "a/b"}, r"RUN_ID=a/b: use up to 100 letters"),
    ({"FRESH": "maybe"}, r"FRESH=maybe: must be 1 or 0"),
    ({"PROGRESS": "none"}, r"PROGRESS=none: choose from: auto, bar, line, off"),
    ({"LOG_FORMAT": "jsn"}, r"LOG_FORMAT=jsn: choose from: text, json.*did you mean json\?"),
]


@pytest.mark.parametrize(("variables", "expected"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_setting_is_told(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str) -> None:
    message = told(monkeypatch, **variables)
    assert re.search(expected, message), message
    assert "1 setting is wrong" in message


def test_all_faults_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = told(monkeypatch, MODEL="vitt", TUNE_PERCENT="0.2", MAX_EVAL="5", LEARNING_RATE="0.1", LR_MAX="1e-9")
    assert "5 settings are wrong" in message
    for part in ("MODEL=vitt", "did you mean vit?", "TUNE_PERCENT=0.2", "MAX_EVALS", "EPOCHS", "LR_MAX=1e-9"):
        assert part in message


@pytest.mark.parametrize(
    "name", ["NODE", "SPEED", "MODELS", "HOSTNAME", "INPUT", "OUT", "MODEL_SERVICE_HOST", "DEVICES_ALL"]
)
def test_other_peoples_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    settings.load()


def test_no_secret_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    message = told(monkeypatch, DATA_URL="ftp://me:canary-1@host/x?token=canary-2", OUTPUT="gs://me:canary-3@host")
    assert "canary" not in message
    assert "host/x" in message


def test_secrets_do_not_reach_the_recorded_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_URL", "https://me:canary@host/a.tar.gz?sig=canary,s3://bucket/b.tar.gz")
    loaded = settings.load()
    assert loaded.data_url == ("https://me:canary@host/a.tar.gz?sig=canary", "s3://bucket/b.tar.gz")
    assert loaded.values()["DATA_URL"] == ["https://***host/a.tar.gz?***", "s3://bucket/b.tar.gz"]


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.variables():
        monkeypatch.setenv(name.upper(), "")
    assert settings.load() == settings.Settings()


def test_the_run_is_named_by_what_shapes_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = settings.load().run_name
    assert re.fullmatch(r"cnn-[0-9a-f]{8}", plain)

    def named(**variables: str) -> str:
        with monkeypatch.context() as context:
            for name, value in variables.items():
                context.setenv(name, value)
            return settings.load().run_name

    assert named(PROGRESS="off", OUTPUT="elsewhere", LOG_FORMAT="json", FRESH="1", DATA_DIR="/x") == plain
    assert named(SEED="3407", TUNE_PERCENT="20") == plain, "a default that is spelled out"
    assert len({plain, named(SEED="1"), named(TUNE_PERCENT="21"), named(MODEL="vit"), named(PRECISION="fp32")}) == 5
    assert named(RUN_ID="mine") == "mine"


HEAVY = {"torch", "torchvision", "hyperopt", "scipy", "matplotlib", "boto3", "numpy"}  # seconds, on any machine


def loaded(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The packages that a job with PYTHONPROFILEIMPORTTIME=1 imported."""
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_faults_come_before_anything_heavy_is_loaded(job: Job) -> None:
    done = job(MODEL="nothing", LOG_FORMAT="text", PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 78
    assert "MODEL=nothing" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    assert "pydantic" in loaded(done)
    assert not loaded(done) & HEAVY


def test_an_argument_is_told_where_settings_go(job: Job) -> None:
    done = job("--model", "vit")
    assert done.returncode == 78
    assert "--model vit" in done.stdout
    assert "--help" in done.stdout


def test_help_tells_values_and_where_they_come_from(job: Job) -> None:
    said = job("--help", MODEL="vit", MAX_EVALS="ten", PATIENC="3", DATA_URL="https://me:canary@host/x").stdout
    assert "  MODEL = vit  (environment)" in said
    assert "  SEED = 3407  (default)" in said
    assert "      a number, at least 1 and at most 100; default: 20" in said
    assert "WRONG: MAX_EVALS=ten: must be a whole number" in said
    assert "WRONG: PATIENC: there is no such variable; did you mean PATIENCE?" in said
    assert "canary" not in said


def test_print_env_writes_the_settings_as_they_are(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read back, the file gives the very same settings; what holds a password is left out and says so."""
    given = {"LR_MIN": "1e-4", "DATA_DIR": "/mnt/x", "FRESH": "true", "DATA_URL": "s3://a/b,file:///c", "PATIENCE": "3"}
    written = job("--print-env", **given).stdout
    told = {line.split("=")[0] for line in written.splitlines() if line and not line.startswith("#")}
    assert told == given.keys(), "a default would take the place of the image's own, e.g. of OUTPUT=/outputs"
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    wanted = settings.load()
    for name in given:
        monkeypatch.delenv(name)
    for line in written.splitlines():
        if line and not line.startswith("#"):
            monkeypatch.setenv(*line.split("=", 1))
    assert settings.load() == wanted

    secret = job("--print-env", DATA_URL="https://me:canary@host/x").stdout
    assert "canary" not in secret
    assert "# left out, holds a secret: DATA_URL=https://***host/x" in secret
    assert job("--print-env", MODE="check", SEED="x").returncode == 78


@pytest.mark.parametrize("argument", ["--help", "--print-env", "--print-env=all"])
def test_help_and_print_env_load_nothing_heavy(job: Job, argument: str) -> None:
    done = job(argument, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0
    assert not loaded(done) & HEAVY


def test_halving_goes_with_plain_trials_alone() -> None:
    """A trial under a recipe with a schedule says nothing before its end."""
    with pytest.raises(ValueError, match=r"(?s)recipe\n.*strong does not go with SEARCH=halving"):
        settings.Settings(search="halving", recipe="strong")
    assert "SEARCH" not in settings.Settings().shaping(), "runs of before keep their names"
    assert settings.Settings(search="halving").shaping()["SEARCH"] == "halving"
    assert "SEARCH" not in settings.Settings(search="halving", learning_rate=1e-3, epochs=1).shaping()
