"""What a report tells of a recipe, and that a plain run's files know nothing of it."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from job import engine, models, report
from job.data import Split
from job.engine.schedule import Schedule, sampled, share
from job.report import page, summary
from job.report.comparison import labels
from job.report.markdown import markdown
from job.report.reading import recipe_from
from job.report.records import OfRecipe, RunReport
from job.report.sheet import mosaic
from job.report.tables import as_json
from job.report.text import text
from job.results import Score
from tests.conftest import TINY, Job
from tests.engine.test_engine import ignore, images
from tests.helpers import records, small_models
from tests.helpers.rounding import FP64

STRONG = models.recipe("mlp", "strong")


@pytest.fixture(scope="module")
def strong() -> RunReport:
    sheet = np.random.default_rng(0).integers(0, 256, (3, 8, 32, 32, 3), dtype=np.uint8)
    way = OfRecipe(STRONG, sampled(Schedule(0.003, 8), 79), sheet, Score(0.71, 77.5))
    return replace(records.run_report(), way=way)


def read(run: RunReport) -> str:
    return " ".join(page.html(run).split())


def in_markdown(run: RunReport) -> str:
    results = as_json(run)
    made_with = results["provenance"] | {"device": "cpu", "hardware": "some processor"}
    return markdown(results | {"provenance": made_with}, "here")


def test_the_recipe_is_told_in_words(strong: RunReport) -> None:
    shown = read(strong)
    assert f"Recipe strong: {STRONG.words()}.".replace("'", "&#39;") in shown
    assert "Train accuracy is on augmented images, train loss on smoothed labels" in shown
    assert "Peak learning rate" in shown
    assert "77.50 %" in shown
    assert "in the first 7 epochs, mixed here with the row above" in shown
    assert "final validation loss" in shown
    assert "default of 0.001" not in shown, "which is Adam's"
    assert f"- Recipe: strong ({STRONG.words()})" in text(strong)
    assert "- With test-time flip, beside it: 77.50%" in text(strong)
    results = as_json(strong)
    assert results["test_time_flip"] == {"loss": 0.71, "accuracy_percent": 77.5}
    assert results["test"]["accuracy_percent"] != 77.5
    assert recipe_from(json.loads(json.dumps(results))) == STRONG
    assert f"| recipe | strong: {STRONG.words()}" in in_markdown(strong).replace("&#39;", "'")


def test_a_plain_run_says_nothing_of_it() -> None:
    plain = records.run_report()
    assert set(as_json(plain)["recipe"]) == {"learning_rate", "epochs", "batch_size", "chosen_by"}
    assert "test_time_flip" not in as_json(plain)
    for told in (read(plain), text(plain), in_markdown(plain)):
        assert "recipe" not in told.lower()
        assert "flip" not in told.lower()


def test_pictures(strong: RunReport) -> None:
    files = report.files(strong)
    width = Image.open(io.BytesIO(files["training_curves.png"])).width
    assert width == 1.5 * Image.open(io.BytesIO(report.files(records.run_report())["training_curves.png"])).width
    assert Image.open(io.BytesIO(files["augmented.png"])).size == (8 * 98 - 2, 3 * 98 - 2)
    assert strong.way.sheet is not None
    whole = mosaic(strong.way.sheet)
    assert np.array_equal(whole[34:66, 68:100], strong.way.sheet[1, 2])
    assert (whole[32:34] == 255).all()


def test_the_curve_shows_the_peak() -> None:
    points = sampled(Schedule(0.2, 10), 391)
    assert len(points) <= 201
    assert max(rate for _, rate in points) == 0.2
    assert points[-1] == (3909 / 391, 0.2 * share(3909, 3910))
    assert len(sampled(Schedule(0.2, 1), 3)) == 3


def test_recipes_stay_apart_in_a_summary() -> None:
    plain, other = records.run("cnn", 7585), records.run("cnn", 8600, name="cnn-99999999")
    runs = [replace(other, recipe="strong"), plain, records.run("vit", 6990)]
    assert labels(runs) == ["cnn strong", "cnn", "vit"]
    again = replace(runs[0], name="cnn-88888888")
    assert labels([*runs, again])[0] == "cnn-99999999 (strong)"
    lines = summary.files(runs, [], None)["summary.csv"].decode().splitlines()
    assert lines[0].split(",")[2] == '"recipe"'
    assert [line.split(",")[2] for line in lines[1:]] == ['"strong"', '"plain"', '"plain"']


def test_the_flip_is_the_mean_of_both_answers() -> None:
    split = images(33)
    model = small_models.perceptron().double()
    found = engine.evaluate_with_flip(model, split, FP64, ignore)
    mirrored = Split(split.images.flip(2), split.labels)
    each = [engine.predict(model, one, FP64, ignore).softmax(1) for one in (split, mirrored)]
    mean = (each[0] + each[1]) / 2
    expected = nn.functional.nll_loss(mean.log(), split.labels)
    assert found.loss == pytest.approx(float(expected), rel=1e-12)
    assert found.accuracy == pytest.approx(100 * float((mean.argmax(1) == split.labels).double().mean()))
    assert torch.equal(mirrored.images[0, :, 0], split.images[0, :, -1])


def test_a_whole_run_is_verified(main: Job, tmp_path: Path) -> None:
    """The vit, which is built otherwise: trained, published, computed again, answered with."""
    wanted = TINY | {"MODEL": "vit", "RECIPE": "strong", "EPOCHS": "2", "MAX_EVALS": "2", "TUNE_MAX_EPOCHS": "2"}
    done = main(**wanted, RUN_ID="run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"recipe     strong: {models.recipe('vit', 'strong').words()}" in done.stdout
    results = json.loads((tmp_path / "outputs" / "run" / "results.json").read_text())
    assert len(results["training"]["epochs"]) == results["recipe"]["epochs"] == 2
    assert {len(trial["epochs"]) for trial in results["tuning"]["trials"]} == {2}
    assert json.loads((tmp_path / "outputs" / "run" / "model.json").read_text())["recipe"] == "strong"
    done = main(**wanted, RUN_ID="run", MODE="verify")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "augmented.png" in done.stdout
    assert "with test-time flip" in done.stdout
    assert "differs" not in done.stdout
