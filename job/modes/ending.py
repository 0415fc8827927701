"""The end of a run: the record of it, what comes after its manifest, and what of that the next start makes up for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from job.console.logs import event
from job.engine import build, classifier
from job.engine.fit import Fitted
from job.errors import Interrupted, NotGoodEnough, as_fault
from job.interrupt import Stop
from job.modes import banner, recipes
from job.modes.beginning import Run
from job.modes.seen import seen
from job.report.answers import Answers
from job.report.metrics import Evaluation
from job.report.records import RunReport
from job.report.seen import Seen
from job.results import Choice, Score, Searched
from job.runs import checkpoint, finished, manifest, provenance, status, taking
from job.runs.finished import Finished
from job.runs.place import place_of
from job.runs.status import Status
from job.settings import Settings
from job.storage import ArtifactStore
from job.tracking import Tracker


@contextmanager
def noted(status: Status, stop: Stop) -> Iterator[None]:
    """What ends an attempt before its time is noted in the run's status."""
    try:
        yield
    except Interrupted as error:
        status.failed(str(error), "Start the same command again: it goes on from here.", error.exit_code)
        raise
    except Exception as error:
        fault = as_fault(error)
        what, remedy, code = f"a bug: {type(error).__name__}", "Please report it with the log.", 1
        if fault is not None:
            what, remedy, code = fault.what, fault.remedy, fault.exit_code
        status.failed(what, remedy, stop.exit_code(code))
        raise


@dataclass(frozen=True)
class Tested:
    """The model's answers on the test set and their measures; `flipped` is its score with test-time flip, if asked."""

    answers: Answers
    evaluation: Evaluation
    flipped: Score | None


def recorded(run: Run, choice: Choice, searched: Searched, fitted: Fitted, tested: Tested) -> RunReport:
    """All that the reports tell."""
    answers, evaluation = tested.answers, tested.evaluation
    made_with = {
        **provenance.collect(run.compute),
        **provenance.changes(run.identity.changes, searched.trials, fitted.note),
        **provenance.code(run.identity.code, run.settings.model),
        "workers": asdict(run.plan),
        "pretrained": run.weights.record() if run.weights else None,
    }
    wrong = [mistake.row for mistake in evaluation.mistakes]
    return RunReport(
        run_name=run.settings.run_name,
        model=run.settings.model,
        structure=str(fitted.model),
        parameters=build.trainable_parameters(fitted.model),
        batch_size=run.settings.batch_size,
        choice=choice,
        trials=searched.trials,
        tuning_seconds=searched.seconds,
        history=fitted.history,
        device=run.compute.describe(),
        settings=run.settings.values(),
        sources=run.settings.sources(),
        data=run.data.describe(),
        provenance=made_with,
        answers=answers,
        evaluation=evaluation,
        thumbnails=run.data.test.images[wrong].cpu().numpy(),
        doubts=tuple(run.data.doubts()),
        examples=run.data.examples(),
        way=recipes.told(run.settings, run.data, choice, run.settings.way, tested.flipped),
    )


def looked_at(run: Run, weights: bytes, tested: Tested) -> Seen:
    """What the trained model looks at, loaded as anybody loads it, which is how `MODE=verify` will look again."""
    about = classifier.describe(run.build, run.data, run.settings.resize, run.compute.precision, {})
    return seen(classifier.load(json.loads(about), weights), run.data.test, tested.answers, tested.evaluation)


def is_settled(store: ArtifactStore) -> bool:
    """Whether all is done that follows a manifest: killed in between, a run is finished, but its status says otherwise,
    and its states or its lock are still there.
    """
    try:
        said = status.read(store).get("phase")
    except ValueError:
        said = None
    return said == status.FINISHED and all(store.get(name) is None for name in (taking.NAME, *checkpoint.SLOTS))


def settle(
    settings: Settings,
    store: ArtifactStore,
    told: Status,
    followers: Sequence[Tracker],
    run: tuple[Mapping[str, Any], Mapping[str, bytes]] | None = None,
) -> None:
    """Removes the states and tells everybody that the run is finished. Call it with the run's lock held.

    `run` holds its results and files; None reads them from the store, where an earlier attempt has put them.
    """
    results, files = run or published(settings, store)
    checkpoint.remove(store)
    for follower in followers:
        follower.finished(results, files)
    if settings.github_step_summary:
        from job.report.markdown import markdown  # Jinja2, which else only the page needs

        banner.append(settings.github_step_summary, markdown(results, store.uri))
    told.tell(status.FINISHED)


def published(settings: Settings, store: ArtifactStore) -> tuple[dict[str, Any], dict[str, bytes]]:
    said = manifest.read(store)
    assert said is not None
    run = Finished(settings.run_name, store, said)
    return finished.results(run), {name: finished.read(run, name) for name in said["files"]}


def judge(settings: Settings, stop: Stop) -> None:
    """Raises NotGoodEnough where the finished run's accuracy is not surely MIN_ACCURACY: the lower end of its interval
    counts, so that a lucky draw of few test images passes no model.
    """
    wanted = settings.min_accuracy
    if wanted is None:
        return
    store = place_of(settings, stop=stop)
    results = finished.results(Finished(settings.run_name, store, manifest.read(store)))
    low, high = results["evaluation"]["accuracy_interval_percent"]
    told = f"test accuracy {results['test']['accuracy_percent']:.2f} % (95 % interval {low:.2f} to {high:.2f} %)"
    if low < wanted:
        raise NotGoodEnough(
            f"{store.uri} is finished and published, but its {told} is not surely MIN_ACCURACY={wanted:g}.",
            "Look into report.html; train longer or on more images, test on more images, or lower MIN_ACCURACY.",
        )
    event("judged", f"{told} is above MIN_ACCURACY={wanted:g}", min_accuracy=wanted, low=low)


def tell_finished(store: ArtifactStore) -> None:
    event("finished", f"finished already: the files are in {store.uri} (FRESH=1 runs it again)", uri=store.uri)
