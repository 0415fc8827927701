"""Values as env files and templates leave them, numbers as Helm writes them, and settings that do nothing."""

from __future__ import annotations

import pytest

from job import settings
from job.errors import Fault
from tests.conftest import Job

TEXTS = ("OUTPUT", "DATA_DIR", "RUN_ID", "PRETRAINED_WEIGHTS", "INPUT", "TENSORBOARD_DIR", "MLFLOW_EXPERIMENT_NAME")
LEFT = [
    ('"results"', "quotes", "=results"),
    ("'results'", "quotes", "=results"),
    ("“results”", "quotes", "=results"),
    ("results # where they go", "a comment", "=results"),
    ("results ", "a blank or line end", "=results"),
    (" results", "a blank or line end", "=results"),
    ("results\n", "a blank or line end", "=results"),
    ("results\r", "a Windows line end", "=results"),
    ('"results" # both\r', "a Windows line end and a comment and quotes", "=results"),
    ("$HOME/results", "$HOME", "write it out"),
    ("${HOME}/results", "${HOME}", "write it out"),
    ("$(HOME)/results", "$(HOME)", "write it out"),
    ("{{ .Values.out }}", "{{ .Values.out }}", "write it out"),
    ("None", "a word for nothing", "leave"),
    ("null", "a word for nothing", "leave"),
    ("<no value>", "a word for nothing", "leave"),
]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.variables():
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("value", "what", "remedy"), LEFT)
def test_what_an_env_file_left_is_told(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, what: str, remedy: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Fault) as caught:
        settings.load()
    told = str(caught.value)
    assert "1 setting is wrong" in told
    assert what in told
    assert remedy in told
    assert "\r" not in told


@pytest.mark.parametrize(
    "item", ['"https://a/x.tar.gz"', "https://a/x.tar.gz # the first", '"https://a/x","https://b/x"']
)
def test_addresses_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch, item: str) -> None:
    monkeypatch.setenv("DATA_URL", item)
    with pytest.raises(Fault, match="came along, which env files keep"):
        settings.load()


def test_choices_and_numbers_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODE": "run\r", "MAX_EVALS": '"20"', "DATA_LIMIT": "None", "SEED": "1 # one"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(Fault) as caught:
        settings.load()
    for part in ("write MODE=run", "write MAX_EVALS=20", "leave DATA_LIMIT empty", "write SEED=1"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("SEED", "2.0240101e+07", 20240101),
        ("DATA_LIMIT", "1e4", 10_000),
        ("DATA_LIMIT", "1E+04", 10_000),
        ("PATIENCE", "5.0", 5),
        ("SEED", "9.223372036854775807e18", 2**63 - 1),
        ("WORKERS", "2.0", "2"),
        ("MAX_EVALS", " 20\n", 20),
        ("TUNE_PERCENT", "2e1", 20.0),
        ("FRESH", " 1", True),
    ],
)
def test_numbers_as_they_are_written(monkeypatch: pytest.MonkeyPatch, name: str, value: str, read: object) -> None:
    monkeypatch.setenv(name, value)
    assert getattr(settings.load(), name.lower()) == read


@pytest.mark.parametrize("value", ["1e999999999", "1.5", "1e-1", "inf", "nan", "1e"])
def test_what_is_no_whole_number(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SEED", value)
    with pytest.raises(Fault, match="must be a whole number, at least 0"):
        settings.load()


def test_what_does_nothing_is_told_and_makes_no_other_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL", "mlp")
    plain = settings.load().run_name
    monkeypatch.setenv("PRETRAINED_WEIGHTS", "weights.pth")
    monkeypatch.setenv("INPUT", "photo.png")
    assert settings.load().run_name == plain
    notes = settings.notes(settings.load())
    assert "PRETRAINED_WEIGHTS is without effect: MODEL=mlp starts from random weights" in notes
    assert "INPUT is without effect: it is for MODE=predict" in notes

    monkeypatch.setenv("MODEL", "resnet18_pretrained")
    used = settings.load()
    assert not [note for note in settings.notes(used) if "PRETRAINED_WEIGHTS" in note]
    monkeypatch.setenv("PRETRAINED_WEIGHTS", "")
    assert settings.load().run_name == used.run_name, "weights are told apart by content, wherever they lie"

    for name, value in {"MODEL": "mlp", "LEARNING_RATE": "0.001", "EPOCHS": "2"}.items():
        monkeypatch.setenv(name, value)
    given = settings.load().run_name
    for name, value in {"MAX_EVALS": "3", "TUNE_PERCENT": "50", "LR_MIN": "1e-4"}.items():
        monkeypatch.setenv(name, value)
    assert settings.load().run_name == given
    assert "MAX_EVALS is without effect: LEARNING_RATE and EPOCHS are given: there is no search" in settings.notes(
        settings.load()
    )


def test_names_of_runs_stay_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """As version 0.1.0 named them: a spot instance with a newer image finds its run again."""
    assert settings.load().run_name == "cnn-effc0d77"
    for name, value in {"MODEL": "vit", "LEARNING_RATE": "0.001", "EPOCHS": "2", "BATCH_SIZE": "64"}.items():
        monkeypatch.setenv(name, value)
    assert settings.load().run_name == "vit-e2672419"


def test_the_job_tells_notes_and_goes_on(tiny: Job) -> None:
    done = tiny(LEARNING_RATE="0.001", EPOCHS="1", PRETRAINED_WEIGHTS="x.pth", LR="3", model="vit", TUNE_PERCENT="20")
    assert done.returncode == 0, done.stdout
    assert "warning: LR is set, but this job does not read it" not in done.stdout, "LEARNING_RATE is there"
    assert "warning: model is set, but only capitals count: write MODEL" in done.stdout
    assert "warning: PRETRAINED_WEIGHTS is without effect" in done.stdout
    checked = tiny(MODE="check", N_TRIALS="3", MAX_EVALS="", LR="3").stdout
    assert "N_TRIALS is set, but this job does not read it: write MAX_EVALS" in checked
    assert "LR is set, but this job does not read it: write LEARNING_RATE" in checked
