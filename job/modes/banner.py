"""What a person reads at the beginning of a run and of its stages, and at its end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path

from job.console.logs import event
from job.data import Dataset
from job.data.draws import Tuning, tuning_doubt
from job.data.places import Place
from job.data.pretrained import Pretrained
from job.device import Compute
from job.engine import build
from job.modes.beginning import Run
from job.report.contents import listing
from job.report.records import RunReport
from job.report.tables import as_json, trial_json
from job.report.text import text as as_text
from job.report.words import duration
from job.results import STOPPED, WAITS, Choice, Trial, rate
from job.runs.standing import FINAL, START, Standing
from job.search import rungs
from job.settings import Settings


def line(label: str, text: str) -> str:
    return f"{label:<11}{text}"


def begins(run: Run) -> None:
    """Who runs, on what, where to, and what of it an earlier attempt has done already."""
    tell_subject(run.settings, run.data, run.weights)
    tell_machine(run.compute, run.place, run.owned.store.uri)
    standing, attempt = run.standing, run.owned.status.attempt
    if standing != START:
        event(
            "resume",
            line("resumed", f"attempt {attempt}: {went_so_far(standing)}"),
            attempt=attempt,
            trials_finished=len(standing.trials),
            epochs_of_part=standing.epochs_of_part,
        )
    for doubt in run.data.doubts():
        event("data", doubt, level="WARNING")
    for change in run.identity.changes:
        event("device", f"{change}: from there on its bits are others than on one machine alone", level="WARNING")


def tell_subject(settings: Settings, data: Dataset, weights: Pretrained | None) -> None:
    parameters = build.parameters(settings.model, len(data.classes), settings.image_size)
    lines = [
        line("run", settings.run_name),
        line("model", f"{settings.model}, {parameters:,} parameters"),
        *([line("recipe", f"{settings.recipe}: {settings.way.words()}")] if settings.way.scheduled else []),
        line(
            "data",
            f"{data.name} ({data.origin}): {len(data.train):,} training and {len(data.test):,} test images, "
            f"{len(data.classes)} classes" + f", {settings.image_size} pixels" * (settings.image_size != build.SMALL),
        ),
    ]
    if weights is not None:
        lines.append(line("weights", weights.describe()))
    record = weights.record() if weights else None
    event("run", "\n".join(lines), run=settings.run_name, model=settings.model, data=data.describe(), weights=record)
    if weights is not None and weights.doubt:
        event("weights", weights.doubt, level="WARNING")


def tell_machine(compute: Compute, place: Place, output: str) -> None:
    event(
        "device",
        "\n".join(
            [
                line("device", f"{compute.device}: {compute.hardware}"),
                line("precision", f"{compute.precision}: {compute.reason}"),
                *(
                    [line("products", "oneDNN's: a probe found them faster than torch's own")]
                    if compute.products == "onednn"
                    else []
                ),
                line("images", place.words()),
                line("output", output),
            ]
        ),
        device=str(compute.device),
        hardware=compute.hardware,
        precision=compute.precision,
        reason=compute.reason,
        products=compute.products,
        images=place.as_json(),
        output=output,
    )


def went_so_far(standing: Standing) -> str:
    numbers = {trial.number for trial in standing.trials if trial.ending != WAITS}
    begun = standing.part if isinstance(standing.part, int) else next(n for n in count() if n not in numbers)
    part = "the final training" if standing.part == FINAL else f"trial {begun + 1}"
    if standing.begun:
        part = f"{len(standing.begun)} trials at once"
    waiting = len(standing.trials) - len(numbers)
    wait = f" and {waiting} at a rung" if waiting else ""
    return f"going on after {len(numbers)} finished trials{wait}, {standing.epochs_of_part} epochs into {part}"


def search_begins(run: Run, drawn: Tuning, validation: int) -> None:
    """What is searched, and on how many images. Warns where they are so few that the search tells little."""
    settings, train = run.settings, len(drawn.rows)
    random_trials = min(settings.tune_startup_trials, settings.max_evals)
    length, rates = f"up to {settings.tune_max_epochs} epochs", "learning rates"
    if settings.way.scheduled:
        length, rates = f"{settings.tune_max_epochs} epochs, a complete schedule each,", "peak learning rates"
    event(
        "tune",
        f"tune: {settings.max_evals} trials of {length} on {train:,} images, "
        f"{validation:,} for validation; {rates} are random draws up to trial {random_trials}"
        + (f", then suggested by TPE in rounds of {run.plan.round}" if settings.adapts else "")
        + halves(settings)
        + f"; {run.plan.describe()}",
        trials=settings.max_evals,
        random_trials=random_trials,
    )
    tell_split(drawn, validation, run.data.classes)


def halves(settings: Settings) -> str:
    if settings.search != "halving":
        return ""
    after = ", ".join(map(str, rungs.rungs(settings.tune_max_epochs)))
    return f", of which the best third goes on after {after} epochs" if after else ""


def tell_split(drawn: Tuning, validation: int, classes: Sequence[str]) -> None:
    doubt = tuning_doubt(len(drawn.rows), validation, len(classes))
    if doubt:
        event("split", f"{doubt}. Raise TUNE_PERCENT or DATA_LIMIT.", level="WARNING")
    if drawn.missed:
        names = ", ".join(classes[label] for label in drawn.missed)
        event(
            "split",
            f"a random draw left the search nothing of {names} to train on: its images are drawn by class instead",
            level="WARNING",
        )


def search_ends(doubt: str) -> None:
    """Says what makes a finished search doubtful, if anything does."""
    if doubt:
        event("tune", doubt, level="WARNING")


def trial_ends(trial: Trial, of: int) -> None:
    if trial.ending == WAITS:
        return
    outcome = trial.failure or f"validation_loss={trial.validation_loss:.4f} best_epoch={trial.best_epoch}"
    outcome += " stopped by halving" * (trial.ending == STOPPED)
    event(
        "trial",
        f"tune trial={trial.number + 1}/{of} learning_rate={rate(trial.learning_rate)} {outcome} "
        f"epochs={len(trial.epochs)} seconds={trial.seconds:.1f}",
        **{name: value for name, value in trial_json(trial).items() if name != "epochs"},
    )


def training_begins(run: Run, choice: Choice) -> None:
    left = run.progress.seconds_left()
    event(
        "train",
        f"train: {choice.epochs} epochs on {len(run.data.train):,} images, learning_rate={rate(choice.learning_rate)} "
        + ("(given)" if choice.trial is None else f"(from trial {choice.trial + 1})")
        + f", about {duration(left)}" * (left > 0),
        epochs=choice.epochs,
        learning_rate=choice.learning_rate,
    )


def ends(finished: RunReport, uri: str, names: Iterable[str]) -> None:
    """The results, and where each file is."""
    event("results", as_text(finished).rstrip(), **as_json(finished)["test"])
    event("finished", "\n".join([f"finished: the files are in {uri}", *listing(names)]), uri=uri)


def append(path: Path | None, text: str) -> None:
    """Adds `text` to the file that continuous integration shows; one that cannot be written costs a warning alone."""
    if path is None:
        return
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        event("step_summary", f"GITHUB_STEP_SUMMARY: {path} cannot be written ({error.strerror})", level="WARNING")
