"""`report.html`: one run on one page that can be sent to someone."""

from __future__ import annotations

import base64
import io
import shlex
from html import escape
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from job.report import plots
from job.report.records import RunReport, data_name
from job.report.style import VARIES, bar, document, facts, percent, plot, table, varies
from job.report.text import dollars, duration
from job.results import Trial, winner

WORST_PAIRS = 8
EARLY = "stopped early"
NARROW = "\u202f"  # a space that does not break
UNTOLD = ("MODE", "INPUT", "FRESH", "PROGRESS", "LOG_FORMAT")  # what a command that repeats a run does without
PLACES = ("OUTPUT", "WORKERS", "RAY_ADDRESS")  # settings that say where a run ran and leave its result alone


def html(report: RunReport) -> str:
    """The whole page. Equal runs give equal bytes but for elements that are marked with `data-varies`."""
    title = f"{report.model} on {data_name(report.data['name'], report.data.get('origin', ''))}"
    header = f"<h1>{escape(title)}</h1>" + (
        f'<p class="lead">Run {escape(report.run_name)}. {training_set(report)}</p>'
    )
    sections = [
        ("result", "", headline(report)),
        ("curves", "Training", training(report)),
        ("search", "Search", search(report)) if report.trials else None,
        ("confusion", "Confusion", confusion(report)),
        ("classes", "Classes", classes(report)),
        ("mistakes", "Mistakes", mistakes(report)) if report.evaluation.mistakes else None,
        ("calibration", "Calibration", calibration(report)),
        ("provenance", "Provenance", provenance(report)),
    ]
    footer = "This page is one file and loads nothing. Its numbers are in results.json, per_class.csv and history.csv."
    return document(title, header, [s for s in sections if s], footer)


def training_set(report: RunReport) -> str:
    trained = f"Trained on {report.data['train_images']:,} images, " if "train_images" in report.data else ""
    return f"{trained or 'Was '}tested on {report.evaluation.images:,} that chose nothing."


def headline(report: RunReport) -> str:
    evaluation, last = report.evaluation, report.history[-1].heldout
    low, high = evaluation.interval
    seconds = report.tuning_seconds + report.training_seconds
    values = [
        ("Test loss", f"{last.loss:.4f}"),
        ("Parameters", f"{report.parameters:,}"),
        ("Learning rate", f"{report.recipe.learning_rate:.6f}"),
        ("Epochs", str(report.recipe.epochs)),
        ("Batch size", str(report.batch_size)),
        ("Calibration error", percent(evaluation.calibration_error)),
        *([("Tuning time", varies(duration(report.tuning_seconds)))] if report.trials else []),
        ("Training time", varies(duration(report.training_seconds))),
    ]
    price = report.settings.get("PRICE_PER_HOUR")
    if price:
        values.append(("Cost", varies(dollars(price * seconds / 3600))))
    return (
        f'<div class="head"><div><p class="score">{last.accuracy:.2f}<small> %</small></p>'
        f"<p>test accuracy<br>95 % interval {100 * low:.2f} to {100 * high:.2f} %</p></div>{facts(values)}</div>"
        f'<p class="note">The interval (Wilson’s) is what {evaluation.images:,} test images allow to say; '
        "it does not hold how much another seed would change.</p>"
    )


def training(report: RunReport) -> str:
    last = report.history[-1]
    epochs = f"{len(report.history)} epoch{'s' * (len(report.history) > 1)}"
    loss = (
        f"Loss after each of {epochs}; at the end {last.train.loss:.4f} in training and "
        f"{last.heldout.loss:.4f} in the test."
    )
    accuracy = (
        f"Accuracy after each of {epochs}; at the end {last.train.accuracy:.2f} % in training and "
        f"{last.heldout.accuracy:.2f} % in the test."
    )
    return (
        f'<div class="pair">{plot(plots.svg(plots.curves(report, "loss"), "loss"), loss)}'
        f"{plot(plots.svg(plots.curves(report, 'accuracy'), 'accuracy'), accuracy)}</div>"
        '<p class="note">Training figures are means over an epoch, while the weights still change; test figures are '
        "taken after it. The number of epochs was fixed before this training began.</p>"
    )


def search(report: RunReport) -> str:
    best = winner(report.trials)
    assert best is not None
    rate_alt = f"Lowest validation loss of {len(report.trials)} trials against their learning rate."
    curve_alt = f"Validation loss after each epoch of {len(report.trials)} trials."
    limit = report.settings.get("TUNE_MAX_EPOCHS")
    early = [str(trial.number + 1) for trial in report.trials if stopped_early(trial, limit)]
    rates = f"Hollow: stopped early (trial{'s' * (len(early) > 1)} {', '.join(early)})." if early else ""
    dots = "Dots mark each trial’s best epoch; the winner is green." + (
        " Lines that leave the picture diverged." * any(trial.failure for trial in report.trials)
    )
    pictures = (
        f'<div class="pair">{plot(plots.svg(plots.search(report), "search"), rate_alt, rates)}'
        f"{plot(plots.svg(plots.trial_curves(report), 'trials'), curve_alt, dots)}</div>"
    )
    rows = [
        (
            str(trial.number + 1),
            f"{trial.learning_rate:.6f}",
            "–" if trial.failure else f"{trial.validation_loss:.4f}",
            str(trial.best_epoch or "–"),
            str(len(trial.epochs)),
            varies(duration(trial.seconds)),
            "winner" if trial is best else escape(ending(trial, limit)),
        )
        for trial in report.trials
    ]
    columns = ("Trial", "Learning rate", "Validation loss", "Best epoch", "Epochs", "Time", "|How it ended")
    listed = table("Every trial", columns, rows, best=best.number)
    return f"{search_words(report, best)}{pictures}<details><summary>All trials</summary>{listed}</details>"


def stopped_early(trial: Trial, limit: int | None) -> bool:
    """Whether patience ended it before it had taken all the epochs that it might have taken."""
    return limit is not None and not trial.failure and len(trial.epochs) < limit


def ending(trial: Trial, limit: int | None) -> str:
    if trial.failure:
        return trial.failure
    return EARLY if stopped_early(trial, limit) else "ran to the limit"


def search_words(report: RunReport, best: Trial) -> str:
    """What the search cost and what it gained, without claiming more than the trials show."""
    trials, near = report.trials, plots.nearest(report.trials, plots.ADAM_DEFAULT)
    limit = report.settings.get("TUNE_MAX_EPOCHS")
    early = sum(stopped_early(trial, limit) for trial in trials)
    failed = sum(bool(trial.failure) for trial in trials)
    whole = report.tuning_seconds + report.training_seconds
    price = report.settings.get("PRICE_PER_HOUR")
    money = f" and {dollars(price * report.tuning_seconds / 3600)}" if price else ""
    cost = (
        f"{len(trials)} trials took {sum(len(trial.epochs) for trial in trials)} epochs on the tuning subset"
        f"<span {VARIES}>, {duration(report.tuning_seconds)} or {percent(report.tuning_seconds / (whole or 1), 0)} of "
        f"the run’s time{money}</span>; {early} stopped early" + (f" and {failed} diverged" if failed else "") + "."
    )
    won = (
        f"Trial {best.number + 1} won at {best.learning_rate:.6f} with a validation loss of {best.validation_loss:.4f} "
        f"in epoch {best.best_epoch}."
    )
    factor = max(near.learning_rate / plots.ADAM_DEFAULT, plots.ADAM_DEFAULT / near.learning_rate)
    away = f"{near.learning_rate:.6f}, a factor of {factor:.1f} away"
    if near is best:
        gain = (
            f"No other trial is nearer to Adam’s default of 0.001 than the winner itself ({away}): nothing here shows "
            "a gain over that default."
        )
    else:
        gain = (
            f"Adam’s default of 0.001 was not tried itself. The trial nearest to it, trial {near.number + 1} ({away}), "
            f"reached {near.validation_loss:.4f}: against that one the search gained "
            f"{near.validation_loss - best.validation_loss:.4f}."
        )
    caution = "" if factor < 1.5 else " At that distance it is a hint at most."
    middle = median(trial.validation_loss for trial in trials if not trial.failure)
    typical = f" The median of all trials is {middle:.4f}." if len(trials) > 2 else ""
    return (
        f"<p>{cost} {won}</p><p>{gain}{caution}{typical} Each rate was tried once, so small differences are chance.</p>"
    )


def confusion(report: RunReport) -> str:
    evaluation = report.evaluation
    names = [score.name for score in evaluation.per_class]
    pairs = sorted(
        (
            (count, true, predicted)
            for true, row in enumerate(evaluation.confusion)
            for predicted, count in enumerate(row)
            if true != predicted and count
        ),
        key=lambda pair: (-pair[0], pair[1], pair[2]),
    )[:WORST_PAIRS]
    alternative = (
        f"Confusion matrix of {len(names)} classes: {evaluation.correct:,} of {evaluation.images:,} images are on its "
        "diagonal."
    )
    caption = "Rows are true classes, columns answers. Blue: right, orange: wrong; the stronger, the larger a share."
    picture = plot(
        plots.svg(plots.confusion_matrix(evaluation, for_page=True), "confusion"), alternative, caption, square=True
    )
    rows = [
        (
            escape(names[true]),
            escape(names[predicted]),
            str(count),
            percent(count / evaluation.per_class[true].support),
        )
        for count, true, predicted in pairs
    ]
    columns = ("True class", "|Taken for", "Images", "Share")
    listed = (
        table("What is confused most often, with its share of the true class", columns, rows)
        if rows
        else "<p>Not one mistake.</p>"
    )
    return f'<div class="pair">{picture}<div>{listed}</div></div>'


def classes(report: RunReport) -> str:
    rows = [
        (
            escape(score.name),
            *(bar(value, f"{value:.3f}") for value in (score.precision, score.recall, score.f1)),
            f"{score.support:,}",
        )
        for score in report.evaluation.per_class
    ]
    mean = [
        sum(getattr(score, key) for score in report.evaluation.per_class) / len(rows)
        for key in ("precision", "recall", "f1")
    ]
    rows.append(("mean", *(f"{value:.3f}" for value in mean), f"{report.evaluation.images:,}"))
    caption = "Precision, recall, their harmonic mean F1, and the count of test images of each class"
    return table(caption, ("Class", "Precision", "Recall", "F1", "Support"), rows, best=len(rows) - 1) + (
        '<p class="note">Precision: the share of right ones among the answers of this class. '
        "Recall: the share of this class’s images that are found.</p>"
    )


def mistakes(report: RunReport) -> str:
    names = [score.name for score in report.evaluation.per_class]
    items = ""
    for mistake, pixels in zip(report.evaluation.mistakes, report.thumbnails, strict=True):
        answer, truth = escape(names[mistake.predicted]), escape(names[mistake.true])
        sure = percent(mistake.confidence).replace(" ", NARROW)
        alternative = f"Test image {mistake.row}: {truth}, taken for {answer}"
        items += (
            f'<li><img src="{picture(pixels)}" width="96" height="96" alt="{alternative}">'
            f"<p><b>{answer}</b><br><span>{sure}, is {truth}</span></p></li>\n"
        )
    wrong = report.evaluation.images - report.evaluation.correct
    return (
        f"<p>Of {wrong:,} wrong answers, those that the model was surest of. Besides hard images, wrong labels show up "
        f'here first.</p><ul class="mistakes">\n{items}</ul>'
    )


def picture(pixels: NDArray[np.uint8]) -> str:
    """uint8 `[rows, columns, 3]` as the address of a PNG within the page."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, format="png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def calibration(report: RunReport) -> str:
    evaluation = report.evaluation
    gap = evaluation.confidence - evaluation.accuracy
    tendency = "surer than it is right" if gap > 0 else "right more often than it is sure"
    alternative = f"Reliability diagram: share of right answers against confidence in {len(evaluation.bins)} bins."
    caption = "Bars: share of right answers; orange: mean confidence; pale bars hold few images; dashed: both agree."
    return (
        f'<div class="pair">{plot(plots.svg(plots.reliability(evaluation), "calibration"), alternative, caption)}<div>'
        f"<p>On average the model is {percent(evaluation.confidence)} sure and {percent(evaluation.accuracy)} right: "
        f"it is {tendency}.</p>"
        f"<p>Expected calibration error: <b>{percent(evaluation.calibration_error)}</b>, the mean distance between "
        f"confidence and accuracy over {len(evaluation.bins)} bins, weighted by their images.</p>"
        '<p class="note">C. Guo and others: On calibration of modern neural networks, ICML 2017.</p>'
        "</div></div>"
    )


def provenance(report: RunReport) -> str:
    commit = report.provenance.get("git_commit")
    versions = report.provenance.get("versions", {})
    rows: list[tuple[str, Any]] = [
        ("Device", report.device),
        ("Precision", sentence(report.provenance, "precision", "precision_reason")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions.items() if value)),
        ("Platform", report.provenance.get("platform")),
        ("Commit", commit),
        ("Data", sentence(report.data, "name", "origin")),
        ("Data SHA-256", report.data.get("sha256")),
    ]
    known = [(name, f'<td class="text wrap">{escape(str(value))}</td>') for name, value in rows if value]
    settings = []
    for name, value in report.settings.items():
        cell = f'<td class="text wrap"{f" {VARIES}" * (name in PLACES)}>'
        settings.append((name, *(f"{cell}{escape(text) or '–'}</td>" for text in (shown(value), report.sources[name]))))
    edited = " The code had changes that no commit holds." if str(commit).endswith("-dirty") else ""
    secret = " *** stands for a password, which is kept nowhere." if "***" in command(report) else ""
    return (
        f"<p>This repeats the run; on a CPU of the same kind to the very same weights.{edited}{secret}</p>"
        f"<pre><code>{command(report)}</code></pre>"
        '<p class="note">With MODE=verify in front, the same command checks this run’s files and computes loss and '
        "accuracy again from the stored weights.</p>"
        f"{table('Made with', ('What', '|Which'), known)}<details><summary>All settings</summary>"
        f"{table('Every setting and where it came from', ('Variable', '|Value', '|Source'), settings)}</details>"
    )


def sentence(values: dict[str, Any], name: str, reason: str) -> str:
    return f"{values[name]} ({values[reason]})" if values.get(reason) else str(values.get(name) or "")


def command(report: RunReport) -> str:
    """The lines that repeat this run, as HTML: the commit and every variable that was set. Passwords never got here."""
    commit = str(report.provenance.get("git_commit") or "").removesuffix("-dirty")
    given = {
        name: escape(f"{name}={shlex.quote(shown(value))} ")
        for name, value in report.settings.items()
        if report.sources.get(name) == "environment" and name not in UNTOLD
    }
    shaping = "".join(part for name, part in given.items() if name not in PLACES)
    places = "".join(f"<span {VARIES}>{part}</span>" for name, part in given.items() if name in PLACES)
    checkout = f"git checkout {escape(commit)}\n" if commit else ""
    return f"{checkout}{shaping}{places}python -m job"


def shown(value: Any) -> str:
    """A setting as one writes it in the environment."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
