"""The story of a run: tune → train → report → publish, from wherever an earlier attempt left it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from job import engine, report, storage
from job.console.progress import Progress
from job.data.dataset import load_data, other_weights
from job.data.draws import tuning_rows
from job.device.memory import memory_faults
from job.engine import Course, build, classifier
from job.engine.fit import Fitted, fit
from job.engine.learner import new_learner
from job.engine.schedule import planned
from job.interrupt import Stop
from job.modes import banner, beginning, ending, limit
from job.modes.beginning import Owned, Run
from job.modes.ending import Tested
from job.modes.limit import Final
from job.report import metrics
from job.report.answers import answers_of
from job.report.tables import as_json
from job.results import Choice, Epoch, Searched, Trial, hopeless, winner
from job.runs import lock, manifest, pace, publish, taking
from job.runs.budget import OutOfTime
from job.runs.place import place_of
from job.runs.standing import FINAL
from job.runs.status import Status
from job.search import runners
from job.search import tune as tuning
from job.search.book import Book
from job.search.time_left import TimeLeft
from job.search.trial import Setup
from job.settings import Settings
from job.storage import ArtifactStore
from job.tracking import Tracker


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Does what is left to do of this run, from nothing to all of it, and judges it by MIN_ACCURACY.

    Raises Fault, TemporaryFault or Interrupted; returns only when the run is finished, published and good enough.
    """
    finish(settings, progress, stop)
    progress.close()
    ending.judge(settings, stop)


def finish(settings: Settings, progress: Progress, stop: Stop) -> None:
    """All but the judgement."""
    progress.check = stop.check
    here = place_of(settings)
    looked_at = storage.Heard(here, stop)
    done = not settings.fresh and is_finished(settings, looked_at, progress)
    if done and ending.is_settled(looked_at):
        return ending.tell_finished(looked_at)
    try:
        paced = pace.pace_of(looked_at)
        with lock.held(here, stop, paced.timing) as held:
            held.store.tidy()
            if settings.fresh:
                publish.remove(held.store)
            done = is_finished(settings, held.store, progress)  # perhaps by the job that held the lock until now
            with stop.heard(lambda: Status(held.brief, stop)) as status:
                own(settings, Owned(held, status, stop, paced), progress, done)
    except taking.AtWork:
        if not done:
            raise
    if done:
        ending.tell_finished(looked_at)


def own(settings: Settings, owned: Owned, progress: Progress, done: bool) -> None:
    """The owner's part: the work, or what is missing at the end of a run that is done. Its end goes into the status."""
    progress.check = owned.check
    with (
        ending.noted(owned.status, owned.stop),
        memory_faults(),
        beginning.trackers(settings, owned.store) as followers,
    ):
        progress.followers = followers
        if done:
            ending.settle(settings, owned.store, owned.status, followers)
        else:
            work(settings, owned, progress, followers)


def work(settings: Settings, owned: Owned, progress: Progress, followers: Sequence[Tracker]) -> None:
    """The run itself."""
    with beginning.begun(settings, owned, progress) as run:
        banner.begins(run)
        limit.begins(run)
        searched = tune(run)
        final = Final(run, choice_of(settings, searched.trials), searched)
        fitted = train(run, final)
        fitted_into = final.told(fitted.history)
        run.keeper.flush()
        tested = evaluate(run, fitted)
        fitted_into = final.answered(fitted_into)
    progress.close()
    owned.status.tell("report")
    choice = final.choice if settings.way.scheduled else replace(final.choice, epochs=len(fitted.history))
    weights = build.weights_file(fitted.model)
    record = ending.recorded(run, choice, searched, fitted, tested)
    record = replace(record, limit=fitted_into, seen=ending.looked_at(run, weights, tested))
    results = as_json(record)
    about = classifier.describe(run.build, run.data, settings.resize, run.compute.precision, results["test"])
    files = report.files(record) | {"weights.pt": weights, "model.json": about}
    pretrained = run.weights.record() if run.weights else None
    vouched = publish.about(settings, run.data.sha256, run.identity.code, pretrained)
    publish.publish(owned.store, files, vouched, owned.check)
    ending.settle(settings, owned.store, owned.status, followers, (results, files))
    banner.ends(record, owned.store.uri, [*files, manifest.NAME])


def tune(run: Run) -> Searched:
    """The search, on a part of the training set; no trials where LEARNING_RATE and EPOCHS are given."""
    settings, images = run.settings, run.data.train
    if settings.learning_rate is not None:
        return Searched()
    run.owned.status.tell("tune")
    own = run.data.validation
    drawn = tuning_rows(images.labels.cpu().numpy(), settings.tune_percent, settings.seed, len(own or ()))
    validation = own or images.take(drawn.validation_rows)
    banner.search_begins(run, drawn, len(validation))
    setup = Setup(settings, run.build, images.take(drawn.rows), validation, run.compute)
    time_left = TimeLeft(run.budget, run.work)
    book = Book(run.standing, run.keeper, run.progress, time_left, grouped=run.plan.kind == "batched")

    def on_trial(trial: Trial) -> None:
        book.trial(trial)
        banner.trial_ends(trial, settings.max_evals)

    with runners.open_runner(run.plan, setup, book.callbacks(), run.standing) as runner:
        trials = tuning.search(settings, runner, run.plan.round, on_trial, run.standing)
    banner.search_ends(hopeless(trials, len(run.data.classes)))
    return book.searched()


def choice_of(settings: Settings, trials: Sequence[Trial]) -> Choice:
    """The winning trial's learning rate and best epoch, or the user's own; under a schedule its own length."""
    best = winner(trials)
    if best is not None:
        return Choice(best.learning_rate, settings.final_epochs or best.best_epoch, best.number)
    assert settings.learning_rate is not None
    assert settings.epochs is not None
    return Choice(settings.learning_rate, settings.epochs, None)


def train(run: Run, final: Final) -> Fitted:
    """The final training: a fresh model on the whole training set."""
    choice = final.choice
    run.owned.status.tell("train")
    paused = run.standing.paused(FINAL)
    run.progress.training_begins(choice.epochs, len(paused.history) if paused else 0)
    banner.training_begins(run, choice)
    rate = planned(run.settings.way, choice.learning_rate, choice.epochs)
    learner = new_learner(run.build, rate, run.compute, run.settings.seed, ("final",))
    course = Course(run.data.train, run.data.test, run.settings.batch_size, final.batch)

    def on_epoch(history: Sequence[Epoch]) -> None:
        run.progress.final_epoch(history[-1])
        run.keeper.offer(lambda: final.state(history, learner))
        final.epoch(history, learner)

    try:
        return fit(learner, course, replace(choice, epochs=final.epochs), paused, on_epoch)
    except OutOfTime:
        return final.ended(learner)


def evaluate(run: Run, fitted: Fitted) -> Tested:
    """The trained model's answers on the test set, and their measures; under a recipe with a flip, too."""
    test, flipped = run.data.test, None
    logits = engine.predict(fitted.model, test, run.compute, run.progress.batch)
    answers = answers_of(logits.numpy(), test.labels.cpu().numpy(), run.data.test_names)
    if run.settings.way.scheduled:
        flipped = engine.evaluate_with_flip(fitted.model, test, run.compute, run.progress.batch)
    return Tested(answers, metrics.evaluate(answers, run.data.classes), flipped)


def is_finished(settings: Settings, store: ArtifactStore, progress: Progress) -> bool:
    """Whether this very run is finished already. Only looks, which needs no lock."""
    weights = other_weights(settings, progress)
    return publish.finished_already(store, settings, lambda: load_data(settings, progress).sha256, weights)
