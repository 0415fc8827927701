"""The files a run leaves, from records with known numbers."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
import shlex
import warnings
from dataclasses import replace

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from job import report
from job.report import metrics, page, page_time
from job.report.answers import answers_of, as_csv, from_csv
from job.report.markdown import markdown as as_markdown
from job.report.plots import answers as answer_plots
from job.report.plots import drawing, fonts
from job.report.plots import search as search_plots
from job.report.plots.answers import confusion_matrix
from job.report.plots.drawing import png
from job.report.plots.search import tuning_plot
from job.report.plots.training import training_curves
from job.report.reading import trial_from
from job.report.records import RunReport, TimeLimit
from job.report.tables import as_json, per_class_csv, trials_csv
from job.report.templating import render
from job.report.text import text as as_text
from job.report.words import duration
from job.results import CUT, STOPPED, Choice, Epoch, Score, Trial
from tests.helpers import records
from tests.helpers.chaos import VARIES

MACHINE = {"device": "cpu", "hardware": "some processor", "precision": "bf16"}
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [0.0, 3.0]], np.float32)  # the last one is a mistake
LABELS = np.array([0, 1, 0])
ANSWERS = answers_of(LOGITS, LABELS, ("0", "1", "test/cat/<odd> name, 2.jpg"))


def read(run: RunReport) -> str:
    """The page as a person reads it: where its lines break is nobody's business."""
    return " ".join(page.html(run).split())


@pytest.fixture(scope="module")
def finished() -> RunReport:
    def epoch(number: int, loss: float) -> Epoch:
        return Epoch(number, Score(loss, 50.0), Score(loss + 0.1, 45.678), 85.6)

    return RunReport(
        run_name="mlp-12345678",
        model="mlp",
        structure="Sequential(\n  (0): Flatten()\n)",
        parameters=1_707_274,
        batch_size=128,
        choice=Choice(0.0000564321, 2, 1),
        trials=(
            Trial(0, 1e-2, (epoch(1, math.nan),), "the loss diverged in epoch 1"),
            Trial(1, 0.0000564321, (epoch(1, 2.0), epoch(2, 1.0), epoch(3, 1.5))),
            Trial(2, 1e-4, (epoch(1, 3.0),)),
        ),
        tuning_seconds=250.0,
        history=(epoch(1, 2.0), epoch(2, 1.0)),
        device="cpu on some processor, fp32",
        settings={"MODEL": "mlp", "SEED": 3407},
        sources={"MODEL": "environment", "SEED": "default"},
        data={"name": "synthetic", "sha256": "0" * 64},
        provenance={"git_commit": None},
        answers=ANSWERS,
        evaluation=metrics.evaluate(ANSWERS, ("cat", "dog <b>")),
        thumbnails=np.zeros((1, 32, 32, 3), np.uint8),
    )


@pytest.fixture(scope="module")
def content(finished: RunReport) -> dict[str, bytes]:
    """What it leaves; drawn once, which takes most of the time of these tests."""
    return report.files(finished)


def test_the_text_is_laid_out_as_specified(finished: RunReport) -> None:
    rule = "=" * 50
    assert as_text(finished) == "\n".join(
        [
            rule,
            "                     Results",
            rule,
            "[Hyper parameters]",
            "  - Best LR: 0.000056",
            "  - Best epochs: 2 epochs",
            "  - Batch size: 128",
            rule,
            "[Model structure]",
            "  - Model type: mlp",
            "  - Model structure:",
            "  Sequential(",
            "    (0): Flatten()",
            "  )",
            "  - Total params: 1,707,274",
            rule,
            "[Training information]",
            "  - Training duration on full training set: 2m 51s",
            "  - Training device: cpu on some processor, fp32",
            rule,
            "[Benchmarks on test set]",
            "  - Test loss: 1.1000",
            "  - Test accuracy: 45.68%",
            rule,
            "",
        ]
    )


def test_the_json_holds_every_number(content: dict[str, bytes]) -> None:
    results = json.loads(content["results.json"])
    assert results["test"] == {"loss": 1.1, "accuracy_percent": 45.678}
    assert results["recipe"]["chosen_by"] == "trial 2"
    assert results["tuning"]["best_trial"] == 2
    assert results["tuning"]["trials"][0]["epochs"][0]["train_loss"] is None, "JSON knows no NaN"
    assert results["settings"]["SEED"] == {"value": 3407, "source": "default"}
    assert results["training"]["seconds"] == pytest.approx(171.2)
    assert results["tuning"]["seconds"] == 250.0, "by the clock: trials run at the same time"
    assert results["tuning"]["trial_seconds"] == pytest.approx(5 * 85.6)


def test_the_tables(content: dict[str, bytes]) -> None:
    history = list(csv.DictReader(io.StringIO(content["history.csv"].decode())))
    assert [row["test_loss"] for row in history] == ["2.1", "1.1"]
    assert not any("validation" in name for name in history[0]), "the test set is not a validation set"
    trials = list(csv.DictReader(io.StringIO(content["trials.csv"].decode())))
    assert [row["best_epoch"] for row in trials] == ["", "2", "1"]
    assert trials[0]["failure"] == "the loss diverged in epoch 1"
    assert float(trials[1]["learning_rate"]) == 0.0000564321


def test_the_pictures(finished: RunReport, content: dict[str, bytes]) -> None:
    for name in ("training_curves.png", "tuning.png"):
        with Image.open(io.BytesIO(content[name])) as picture:
            assert min(picture.size) > 400
    assert content == report.files(finished), "equal runs give equal bytes"


def test_what_the_pictures_say(finished: RunReport) -> None:
    loss, accuracy = training_curves(finished).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in loss.get_lines()}
    assert lines == {"train": [2.0, 1.0], "test": [2.1, 1.1]}
    assert "accuracy" in accuracy.get_ylabel()
    (axes,) = tuning_plot(finished).axes
    assert axes.get_xscale() == "log"
    drawn = {points.get_label().split(":")[0]: len(points.get_offsets()) for points in axes.collections}
    assert drawn == {"trial": 2, "failed": 1, "winner": 1}


def test_a_run_without_tuning(finished: RunReport) -> None:
    content = report.files(replace(finished, trials=(), choice=Choice(0.001, 2, None)))
    assert "tuning.png" not in content
    assert content["trials.csv"].decode().count("\n") == 1
    assert json.loads(content["results.json"])["recipe"]["chosen_by"] == "LEARNING_RATE and EPOCHS"


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0m 0s"), (59.6, "1m 0s"), (171.2, "2m 51s"), (3725, "62m 5s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_the_evaluation_is_in_json_and_csv(content: dict[str, bytes]) -> None:
    evaluation = json.loads(content["results.json"])["evaluation"]
    assert evaluation["confusion_matrix"] == [[1, 1], [0, 1]]
    assert (evaluation["images"], evaluation["correct"]) == (3, 2)
    low, high = evaluation["accuracy_interval_percent"]
    assert 20 < low < 66 < high < 95, "three images say little"
    (mistake,) = evaluation["most_confident_mistakes"]
    assert (mistake["test_image"], mistake["true"], mistake["predicted"]) == (2, "cat", "dog <b>")
    assert mistake["image"] == "test/cat/<odd> name, 2.jpg", "a person finds the file"
    assert mistake["confidence"] == pytest.approx(1 / (1 + math.exp(-3)))
    cat, dog = csv.DictReader(io.StringIO(content["per_class.csv"].decode()))
    assert (cat["precision"], cat["recall"], cat["support"]) == ("1.0", "0.5", "2")
    assert (dog["name"], dog["precision"], dog["recall"]) == ("dog <b>", "0.5", "1.0")


def test_the_page_says_what_the_search_gained(finished: RunReport) -> None:
    text = read(finished)
    assert "dog &lt;b&gt;" in text
    assert "<b>dog" not in text.replace("<b>dog &lt;b&gt;</b>", "")
    # Of the trials that did not fail, 0.0001 is nearest to 0.001; its loss of 3.1 is 2.0 above the winner's.
    assert "nearest to it, trial 3 (0.000100, a factor of 10.0 away), reached 3.1000" in text
    assert "the search gained 2.0000" in text
    assert "a hint at most" in text
    assert "1 diverged" in text


def test_no_gain_is_claimed_where_the_winner_is_nearest_to_the_default(finished: RunReport) -> None:
    only = (finished.trials[1],)
    text = read(replace(finished, trials=only, choice=Choice(0.0000564321, 2, 1)))
    assert "nothing here shows a gain over that default" in text


def test_the_command_repeats_the_run(finished: RunReport) -> None:
    """What a shell makes of it is the very settings that were set, with the commit checked out first."""
    settings = {
        "MODE": "run",
        "MODEL": "mlp",
        "DATA_DIR": "my images/<new>",
        "SEED": 3407,
        "FRESH": True,
        "OUTPUT": "out",
    }
    sources = {name: "default" if name == "SEED" else "environment" for name in settings}
    told = replace(finished, settings=settings, sources=sources, provenance={"git_commit": "abc-dirty"})
    text = page.html(told)
    command = html.unescape(re.sub("<[^>]*>", "", re.findall(r"<pre><code>(.*?)</code></pre>", text, re.DOTALL)[0]))
    checkout, line = command.splitlines()
    assert checkout == "git checkout abc"
    assert shlex.split(line) == ["MODEL=mlp", "DATA_DIR=my images/<new>", "OUTPUT=out", "python", "-m", "job"]
    assert "changes that no commit holds" in read(told)


def test_equal_runs_give_equal_pages_but_for_the_clock(finished: RunReport) -> None:
    slower = tuple(replace(epoch, seconds=2 * epoch.seconds) for epoch in finished.history)
    settings = {"MODEL": "mlp", "OUTPUT": "elsewhere", "PRICE_PER_HOUR": 3.0}
    sources = dict.fromkeys(settings, "environment")
    one = replace(finished, settings=settings | {"OUTPUT": "here"}, sources=sources)
    two = replace(one, history=slower, settings=settings)
    pages = [page.html(run) for run in (one, two)]
    assert pages[0] != pages[1]
    assert VARIES.sub("", pages[0]) == VARIES.sub("", pages[1])
    worse = replace(one, history=(*one.history[:-1], replace(one.history[-1], heldout=Score(1.1001, 45.0))))
    assert VARIES.sub("", page.html(worse)) != VARIES.sub("", pages[0])


def test_a_faultless_model_has_no_mistakes_to_show(finished: RunReport) -> None:
    evaluation = metrics.evaluate(answers_of(LOGITS[:2], LABELS[:2], ("0", "1")), ("cat", "dog"))
    content = report.files(replace(finished, evaluation=evaluation, thumbnails=np.zeros((0, 32, 32, 3), np.uint8)))
    assert "mistakes.png" not in content
    assert "Not one mistake." in content["report.html"].decode()


def test_many_classes_with_long_names_still_fit() -> None:
    names = tuple(f"${number} is a class with a rather long name that costs $1" for number in range(60))
    many = records.run_report(count=600, classes=names)
    with Image.open(io.BytesIO(png(confusion_matrix(many.evaluation)))) as picture:
        assert max(picture.size) < 2500


def test_which_trials_stopped_early_is_told_and_drawn() -> None:
    """Eight trials of up to twelve epochs: those of numbers 0, 3 and 6 in the records go the whole way, 3 diverged."""
    finished = records.run_report()
    text = read(finished)
    assert "Hollow: stopped early (trials 2, 3, 5, 6, 8)." in text
    assert "5 stopped early and 1 diverged" in text
    (axes,) = search_plots.search(finished).axes
    drawn = {points.get_label(): len(points.get_offsets()) for points in axes.collections}
    assert (drawn["trial"], drawn["stopped early"], drawn["diverged"]) == (2, 5, 1)


def test_the_cost_of_tuning(finished: RunReport) -> None:
    """A search of 250 s on the clock, with five epochs of 85.6 s, at 36 USD an hour, which is one cent a second."""
    settings, sources = {"MODEL": "mlp", "PRICE_PER_HOUR": 36.0}, dict.fromkeys(("MODEL", "PRICE_PER_HOUR"), "default")
    text = re.sub("<[^>]*>", "", read(replace(finished, settings=settings, sources=sources)))
    assert "4m 10s or 59 % of the run’s time and 2.50 USD (7m 8s added up over the trials)" in text


def test_a_search_that_learned_nothing_says_so(finished: RunReport) -> None:
    """Two classes: guessing has a loss of ln 2."""
    (first, _, _), warning = finished.trials[1].epochs, "Warning: no trial learned anything: the lowest validation loss"
    trials = {loss: (Trial(0, 4e-7, (replace(first, heldout=Score(loss, 50.0)),)),) for loss in (1.0, 2.1)}
    assert warning not in page.html(replace(finished, trials=trials[1.0]))
    assert f"{warning}, 2.1 at the learning rate 4e-07" in page.html(replace(finished, trials=trials[2.1]))


def test_a_folder_is_called_by_its_name(finished: RunReport) -> None:
    own = replace(finished, data=finished.data | {"name": "folder", "origin": "/data/my birds"})
    assert "<h1>mlp on my birds</h1>" in page.html(own)


def test_more_than_ten_classes_have_a_top_five() -> None:
    """In results, text, page and table; and the answers come back with their ranks."""
    names = tuple(f"class {number}" for number in range(12))
    many = records.run_report(classes=names)
    many = replace(many, data=many.data | {"classes": list(names)})
    made = report.files(many)
    assert many.answers.ranks is not None
    share = 100 * float((many.answers.ranks <= 5).mean())
    assert 50 < share < 100
    assert json.loads(made["results.json"])["evaluation"]["top5_accuracy_percent"] == share
    assert f"  - Top-5 test accuracy: {share:.2f}%\n" in made["results.txt"].decode()
    assert f"Top-5 accuracy</dt><dd>{share:.1f} %" in made["report.html"].decode()
    back = from_csv(made["test_predictions.csv"], names).ranks
    assert back is not None
    assert np.array_equal(back, many.answers.ranks)
    older = as_csv(replace(many.answers, ranks=None), names)
    assert metrics.evaluate(from_csv(older.encode(), names), names).top5_accuracy is None, "as older runs kept them"
    few = report.files(records.run_report())
    assert not any(b"op-5" in few[name] for name in ("results.txt", "report.html"))
    assert "top5_accuracy_percent" not in json.loads(few["results.json"])["evaluation"]
    assert few["test_predictions.csv"].startswith(b'"image","true","predicted","confidence"\n')


def test_a_mistake_is_found_by_its_name(content: dict[str, bytes]) -> None:
    assert "test/cat/&lt;odd&gt; name, 2.jpg" in content["report.html"].decode()
    rows = list(csv.DictReader(io.StringIO(content["test_predictions.csv"].decode(), newline="")))
    assert [row["image"] for row in rows] == list(ANSWERS.names)
    assert [(row["true"], row["predicted"]) for row in rows] == [("cat",) * 2, ("dog <b>",) * 2, ("cat", "dog <b>")]


def test_answers_come_back_as_they_were_kept() -> None:
    """To the last bit, whatever the names hold; and nothing else is taken for answers."""
    classes = ("a,b", 'with "quotes"', "two\nlines", "ünï")
    logits = np.random.default_rng(3).normal(size=(50, 4)).astype(np.float32)
    kept = answers_of(logits, np.arange(50) % 4, [f'{n}, "x"\r\n.jpg' for n in range(50)])
    content = as_csv(kept, classes).encode()
    back = from_csv(content, classes)
    assert back.names == kept.names
    for name in ("true", "predicted", "confidence"):
        assert np.array_equal(getattr(back, name), getattr(kept, name))
    assert metrics.evaluate(back, classes) == metrics.evaluate(kept, classes)
    for other in (b"", b"image,true\n", content[:-40], content.replace(b"a,b", b"a,c"), b"\xff"):
        with pytest.raises(ValueError, match=r"test_predictions\.csv cannot be read"):
            from_csv(other, classes)


def test_what_a_template_misspells_is_an_error(finished: RunReport) -> None:
    with pytest.raises(UndefinedError):
        render("page.html", title="x", lead="", sections=[], foter="")


def test_markdown_keeps_its_table_whatever_names_hold(finished: RunReport) -> None:
    ran = finished.provenance | {"device": "one\ntwo", "hardware": "h", "precision": "fp32"}
    told = replace(finished, data=finished.data | {"name": "a|b <i>", "train_images": 2000}, provenance=ran)
    lines = as_markdown(as_json(told), "s3://bucket/a|b&c").splitlines()
    assert lines[0] == "### Run `mlp-12345678`"
    assert "| data | a\\|b &lt;i&gt;, 2,000 training images |" in lines
    assert "| device | one two on h, fp32 |" in lines
    assert "| files | <code>s3://bucket/a\\|b&amp;c</code> |" in lines
    assert "| search | 3 trials in 4m 10s |" in lines
    assert all(line.count("|") - line.count("\\|") == 3 for line in lines[2:])


def test_a_name_with_a_line_end_keeps_its_row() -> None:
    """Line ends in names are spelled out, and every cell is quoted."""
    evaluation = metrics.evaluate(ANSWERS, ("a\rb", 'c\n"d", e'))
    content = per_class_csv(evaluation)
    assert '"a\\rb"' in content
    rows = list(csv.reader(io.StringIO(content, newline="")))
    assert [row[0] for row in rows] == ["name", "a\\rb", 'c\\n"d", e']
    assert len({len(row) for row in rows}) == 1


def test_names_in_any_script_are_drawn_or_stand_as_their_number() -> None:
    names = ("cat", "\U0001fae8\ue000", "Ωμέγα", "$x$", "a\rb")
    assert fonts.drawable(names) == ["cat", "class 2", "Ωμέγα", "$x$", "class 5"]
    logits = np.eye(5, dtype=np.float32)[[0, 1, 2, 3, 4, 1, 2, 3, 4, 0]]
    evaluation = metrics.evaluate(answers_of(logits, np.arange(10) % 5, tuple("0123456789")), names)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert drawing.png(answer_plots.confusion_matrix(evaluation)).startswith(b"\x89PNG")
        picture = drawing.svg(answer_plots.confusion_matrix(evaluation, for_page=True), "x")
    assert "\U0001fae8" in picture, "a browser may have it"


def test_a_trial_that_halving_stopped_is_told_everywhere() -> None:
    """In JSON and back, in the table, on the page; without one nothing of it is written."""
    plain = records.run_report()
    assert "stopped_at_rung" not in trials_csv(plain.trials) + json.dumps(as_json(plain))
    stopped = replace(plain.trials[0], ending=STOPPED)
    halved = replace(plain, trials=(stopped, *plain.trials[1:]))
    entry = as_json(halved)["tuning"]["trials"][0]
    assert entry["stopped_at_rung"] == len(stopped.epochs)
    assert trial_from(entry, False) == stopped
    heading, first, second = trials_csv(halved.trials).splitlines()[:3]
    assert heading.endswith(',"stopped_at_rung"')
    assert first.endswith(f",{len(stopped.epochs)}")
    assert second.endswith(',""')
    assert f"stopped at rung {len(stopped.epochs)}" in read(halved)
    assert "1 at a rung of successive halving" in read(halved)


def test_what_fitted_into_the_time_is_told_everywhere() -> None:
    """In JSON, text, page and Markdown, and read back; a trial that was cut short with its epochs."""
    plain = records.run_report()
    cut = replace(plain.trials[0], ending=CUT)
    said = read(replace(plain, trials=(cut, *plain.trials[1:])))
    assert "cut short by MAX_HOURS" in said
    assert "cut short" not in read(plain)
    limited = replace(plain, trials=(cut, *plain.trials[1:7]), limit=TimeLimit(0.5, 7, 20, 1, 9, 9, 11))
    words = "7 of 20 trials (1 of them cut short), 9 of 11 epochs fitted into 0.5 hours"
    results = as_json(limited)
    assert results["time_limit"]["in_words"] == words
    assert results["tuning"]["trials"][0]["cut_by_max_hours"] == len(cut.epochs)
    assert trial_from(results["tuning"]["trials"][0], False) == cut
    assert f"- Time limit: {words}" in as_text(limited)
    assert f"Time limit: {words}." in read(limited)
    assert f"| time limit | {words} |" in as_markdown(results | {"provenance": MACHINE}, "there")
    assert TimeLimit(2, 0, 0, 0, 3, 3, 3).in_words == "3 of 3 epochs fitted into 2 hours"
    assert "time_limit" not in as_json(plain)
    assert "Time limit" not in as_text(plain) + read(plain)


def test_rungs_and_what_halving_saved_are_shown() -> None:
    """Nine trials: 3 of 9 go on after one epoch, 1 of 3 after three; the last one takes six: 9 + 6 + 3 of 54 epochs."""
    stops = dict.fromkeys(range(6), 1) | {6: 3, 7: 3}
    trials = [records.trial(n, 1e-4 * (n + 1), 2.0 - 0.1 * n, stops.get(n, 6)) for n in range(9)]
    halved = tuple(replace(t, ending=STOPPED) if t.number in stops else t for t in trials)
    assert search_plots.went_on(halved) == [(1, 9, 3), (3, 3, 1)]
    run = replace(records.run_report(), trials=halved)
    said = read(run)
    assert "3 of 9 trials went on after 1 epoch, 1 of 3 trials went on after 3 epochs." in said
    assert "taken 54 epochs: halving saved up to 67 % of them" in said
    assert "3 of 9 go on" in said
    assert "at a rung" in said
    assert "Successive halving" not in read(records.run_report())


def test_the_time_is_one_bar() -> None:
    """An hour: 6 minutes for loading, 30 % for the search, a tenth each for training and answers."""
    plain = records.run_report()
    limit = TimeLimit(1.0, 8, 20, 0, 8, 8, 8, 360.0, 36.0)
    history = tuple(replace(epoch, seconds=45.0) for epoch in plain.history)
    used = page_time.use(replace(plain, limit=limit, tuning_seconds=1080.0, history=history))
    assert used is not None
    assert [(part.name, part.share) for part in used.parts] == [
        ("data", 0.1), ("search", 0.3), ("training", 0.1), ("report", 0.01)
    ]  # fmt: skip
    assert "data 6m 0s" in read(replace(plain, limit=limit))
    assert page_time.use(plain) is None
