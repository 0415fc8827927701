"""`report.html`: one run on one page that can be sent to someone."""

from __future__ import annotations

from dataclasses import dataclass

from job.models import Recipe
from job.report import page_data, page_images, page_provenance, page_search
from job.report.metrics import Bin, ClassScore, mean_score
from job.report.page_time import TimeUse, use
from job.report.plots import answers, training
from job.report.records import RunReport, data_name
from job.report.sheet import mosaic
from job.report.templating import Drawing, Section, address, drawing, page
from job.report.words import count, plural
from job.results import Choice, Score, rate

WORST_PAIRS = 8
MANY = 40  # classes; a matrix of more has cells that nobody reads
FOOTER = "This page is one file and loads nothing. Its numbers are in results.json, per_class.csv and history.csv."


def html(report: RunReport) -> str:
    """The whole page. Equal runs give equal bytes but for elements that are marked with `data-varies`."""
    title = f"{report.model} on {data_name(report.data['name'], report.data.get('origin', ''))}"
    parts = [
        ("result", "", result(report)),
        ("training", "Training", curves(report)),
        ("search", "Search", page_search.search(report) if report.trials else None),
        ("confusion", "Confusion", confusion(report)),
        ("classes", "Classes", classes(report)),
        ("mistakes", "Mistakes", page_images.mistakes(report) if report.evaluation.mistakes else None),
        ("seen", "What it looked at", page_images.looked_at(report) if report.seen else None),
        ("calibration", "Calibration", calibration(report)),
        ("data", "Data", page_data.data(report)),
        ("provenance", "Provenance", page_provenance.provenance(report)),
    ]
    sections = [Section(name, heading, f"report/{name}.html", it) for name, heading, it in parts if it is not None]
    return page(title, f"Run {report.run_name}. {training_set(report)}", sections, FOOTER)


def training_set(report: RunReport) -> str:
    trained = f"Trained on {count(report.data['train_images'])} images, " if "train_images" in report.data else ""
    return f"{trained or 'Was '}tested on {count(report.evaluation.images)} that chose nothing."


@dataclass(frozen=True)
class Result:
    """What stands first. `low` and `high` are the interval's ends as shares, times in seconds, `cost` in USD."""

    accuracy_percent: str
    low: float
    high: float
    images: int
    loss: float
    parameters: int
    choice: Choice
    recipe: Recipe
    flipped: Score | None
    batch_size: int
    top5_accuracy: float | None
    balanced_accuracy: float
    macro_f1: float
    calibration_error: float
    searched: bool
    tuning_seconds: float
    training_seconds: float
    cost: float | None
    limit: TimeUse | None


def result(report: RunReport) -> Result:
    evaluation, last = report.evaluation, report.history[-1].heldout
    seconds = report.tuning_seconds + report.training_seconds
    return Result(
        accuracy_percent=f"{last.accuracy:.2f}",
        low=evaluation.interval[0],
        high=evaluation.interval[1],
        images=evaluation.images,
        loss=last.loss,
        parameters=report.parameters,
        choice=report.choice,
        recipe=report.recipe,
        flipped=report.way.flipped,
        batch_size=report.batch_size,
        top5_accuracy=evaluation.top5_accuracy,
        balanced_accuracy=evaluation.balanced_accuracy,
        macro_f1=evaluation.macro_f1,
        calibration_error=evaluation.calibration_error,
        searched=bool(report.trials),
        tuning_seconds=report.tuning_seconds,
        training_seconds=report.training_seconds,
        cost=report.cost(seconds),
        limit=use(report),
    )


@dataclass(frozen=True)
class Curves:
    """`sheet` is the address of augmented training images, in `columns` epochs; empty where there are none."""

    drawings: tuple[Drawing, ...]
    recipe: Recipe
    sheet: str
    columns: int


def curves(report: RunReport) -> Curves:
    last = report.history[-1]
    loss = f"{last.train.loss:.4f} in training and {last.heldout.loss:.4f} in the test"
    accuracy = f"{last.train.accuracy:.2f} % in training and {last.heldout.accuracy:.2f} % in the test"
    drawings = [curve(report, "loss", loss), curve(report, "accuracy", accuracy)]
    if report.way.rates:
        words = f"The learning rate over the steps: up to {rate(report.choice.learning_rate)}, then to zero."
        drawings.append(drawing(training.rates(report), "rate", words))
    sheet = report.way.sheet
    return Curves(
        tuple(drawings),
        report.recipe,
        "" if sheet is None else address(mosaic(sheet), sheet.shape[2]),
        0 if sheet is None else sheet.shape[1] - 1,
    )


def curve(report: RunReport, key: str, end: str) -> Drawing:
    words = f"{key.capitalize()} after each of {plural(len(report.history), 'epoch')}; at the end {end}."
    return drawing(training.curves(report, key), key, words)


@dataclass(frozen=True)
class Confused:
    """Two classes, how many images of the one were taken for the other, and their share of the one."""

    true: str
    predicted: str
    count: int
    share: float


@dataclass(frozen=True)
class Confusion:
    """`drawing` is None where there are more classes than `MANY`."""

    drawing: Drawing | None
    pairs: tuple[Confused, ...]


def confusion(report: RunReport) -> Confusion:
    evaluation = report.evaluation
    scores = evaluation.per_class
    wrong = [
        (images, true, predicted)
        for true, row in enumerate(evaluation.confusion)
        for predicted, images in enumerate(row)
        if true != predicted and images
    ]
    many = len(scores) > MANY
    worst = sorted(wrong, key=lambda pair: (-pair[0], pair[1], pair[2]))[: 4 * WORST_PAIRS if many else WORST_PAIRS]
    alternative = (
        f"Confusion matrix of {len(scores)} classes: {evaluation.correct:,} of {evaluation.images:,} images are on its "
        "diagonal."
    )
    caption = "Rows are true classes, columns answers. Blue: right, orange: wrong; the stronger, the larger a share."
    matrix = None
    if not many:
        figure = answers.confusion_matrix(evaluation, for_page=True)
        matrix = drawing(figure, "confusion", alternative, caption, square=True)
    return Confusion(
        matrix,
        tuple(
            Confused(scores[true].name, scores[predicted].name, images, images / scores[true].support)
            for images, true, predicted in worst
        ),
    )


@dataclass(frozen=True)
class Classes:
    """`means` of precision, recall and F1, every class that was tested counting the same. Of more classes than `MANY`
    only the worst are shown at once, `further` fold away.
    """

    scores: tuple[ClassScore, ...]
    further: tuple[ClassScore, ...]
    means: tuple[float, ...]
    images: int


def classes(report: RunReport) -> Classes:
    scores = report.evaluation.per_class
    means = tuple(mean_score(scores, key) for key in ("precision", "recall", "f1"))
    shown, further = scores, scores[:0]
    if len(scores) > MANY:
        worst = sorted(scores, key=lambda score: (score.f1 is None, score.f1 or 0, score.name))
        shown, further = tuple(worst[:MANY]), tuple(worst[MANY:])
    return Classes(shown, further, means, report.evaluation.images)


@dataclass(frozen=True)
class Calibration:
    drawing: Drawing
    confidence: float
    accuracy: float
    calibration_error: float
    bins: tuple[Bin, ...]


def calibration(report: RunReport) -> Calibration:
    evaluation = report.evaluation
    alternative = f"Reliability diagram: share of right answers against confidence in {len(evaluation.bins)} bins."
    caption = "Bars: share of right answers; orange: mean confidence; pale bars hold few images; dashed: both agree."
    return Calibration(
        drawing(answers.reliability(evaluation), "calibration", alternative, caption),
        evaluation.confidence,
        evaluation.accuracy,
        evaluation.calibration_error,
        evaluation.bins,
    )
