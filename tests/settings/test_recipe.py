"""`RECIPE`: what it makes of other settings, and that without it nothing is another."""

from __future__ import annotations

import re

import pytest

from job import models, settings
from job.errors import Fault


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> settings.Settings:
    with monkeypatch.context() as context:
        for name, value in variables.items():
            context.setenv(name, value)
        return settings.load()


def test_plain_is_what_there_was(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load(monkeypatch)
    assert plain.recipe == "plain"
    assert plain.way is models.PLAIN
    assert load(monkeypatch, RECIPE="plain").run_name == plain.run_name
    assert "RECIPE" not in plain.shaping()
    assert (plain.lr_min, plain.lr_max) == models.PLAIN.rates
    assert (plain.tune_max_epochs, plain.trial_patience, plain.final_epochs) == (50, 5, None)


def test_the_recipe_has_defaults_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    strong = load(monkeypatch, RECIPE="strong", MODEL="vit")
    own = models.recipe("vit", "strong")
    assert (strong.lr_min, strong.lr_max) == own.rates
    assert strong.tune_max_epochs == strong.trial_patience == 10
    assert strong.final_epochs == own.epochs
    assert {strong.sources()[name] for name in ("LR_MIN", "LR_MAX", "TUNE_MAX_EPOCHS")} == {"default"}
    assert strong.shaping()["RECIPE"] == "strong"
    assert strong.run_name != load(monkeypatch, MODEL="vit").run_name


def test_what_is_given_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = load(monkeypatch, RECIPE="strong", LR_MIN="0.02", TUNE_MAX_EPOCHS="50", EPOCHS="7")
    assert (given.lr_min, given.lr_max) == (0.02, models.recipe("cnn", "strong").rates[1])
    assert (given.tune_max_epochs, given.final_epochs) == (50, 7)
    assert given.learning_rate is None, "the search finds it"
    assert given.sources()["TUNE_MAX_EPOCHS"] == "environment"
    spelled_out = load(monkeypatch, RECIPE="strong", TUNE_MAX_EPOCHS="10")
    assert spelled_out.run_name == load(monkeypatch, RECIPE="strong").run_name


def test_what_has_no_meaning_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    patient = load(monkeypatch, RECIPE="strong", PATIENCE="9")
    assert any("PATIENCE is without effect: RECIPE=strong" in note for note in settings.notes(patient))
    assert patient.run_name == load(monkeypatch, RECIPE="strong").run_name
    copied = load(monkeypatch, RECIPE="strong", LR_MIN=settings.default_of("LR_MIN"), TUNE_MAX_EPOCHS="20")
    (note,) = settings.notes(copied)
    assert note.startswith("LR_MIN is set to the plain recipe's default")
    given = load(monkeypatch, RECIPE="strong", LEARNING_RATE="0.1", EPOCHS="3")
    assert not [note for note in settings.notes(given) if "without effect" in note], "no setting of the search was set"
    for variables, told in (
        ({"LEARNING_RATE": "0.1"}, r"EPOCHS: LEARNING_RATE is set but EPOCHS is not"),
        ({"LR_MAX": "0.001"}, r"LR_MAX=0\.001: must be greater than LR_MIN \(0\.01\)"),
        ({"RECIPE": "stronk"}, r"RECIPE=stronk: choose from: plain, strong.*did you mean strong\?"),
    ):
        with pytest.raises(Fault) as caught:
            load(monkeypatch, **({"RECIPE": "strong"} | variables))
        assert re.search(told, str(caught.value)), str(caught.value)
        assert "1 setting is wrong" in str(caught.value)


def test_a_recipe_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "own_recipe", lambda name: {"optimiser": "adamw"})
    with pytest.raises(Fault, match=r"RECIPE=strong: STRONG in job/models/cnn\.py is no recipe: .*optimiser"):
        load(monkeypatch, RECIPE="strong")
    load(monkeypatch)
