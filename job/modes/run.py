"""The story of a run: settings → data → tune → train → report → publish. The one file that knows every stage."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from job import data, device, engine, preflight, report, storage, tracking
from job.console.logs import event
from job.console.progress import Progress, Work
from job.data import Dataset
from job.data.dataset import load_data
from job.device import Compute
from job.engine import Learner, Paused, build, snapshot
from job.engine import fit as training
from job.errors import Fault, Interrupted
from job.interrupt import Stop
from job.modes import banner
from job.report import metrics
from job.report.answers import answers_of
from job.results import Epoch, Recipe, Trial, winner
from job.runs import checkpoint, lock, provenance, publish
from job.runs.checkpoint import FINAL, Keeper, Standing
from job.runs.status import NAME as STATUS
from job.runs.status import Status
from job.search import runners, tune
from job.search.batched import Begun
from job.search.runners import Plan
from job.search.trial import Callbacks, Setup
from job.settings import Settings
from job.storage import ArtifactStore
from job.tracking import Tracker


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Does what is left to do of this run, from nothing to all of it.

    Raises Fault, TemporaryFault or Interrupted; returns only when the run is finished and published.
    """
    store = storage.open_store(settings.output, settings.run_name)
    if not settings.fresh and is_finished(settings, store):
        return
    with lock.held(store, stop.check) as held:
        store.tidy()
        if settings.fresh:
            start_over(store)
        elif is_finished(settings, store):  # by the job that held the lock until now
            return

        def check() -> None:
            stop.check()
            held.check()

        progress.check = check
        status = Status(store)
        try:
            with device.memory_faults(), trackers(settings, store) as followers:
                progress.followers = followers
                work(settings, store, status, progress, followers)
        except (Fault, Interrupted) as error:
            remedy = error.remedy if isinstance(error, Fault) else "Start the same command again: it goes on from here."
            status.failed(str(error.args[0]), remedy, error.exit_code)
            raise
        except Exception as error:
            status.failed(f"a bug: {type(error).__name__}", "Please report it with the log.", 1)
            raise


def work(
    settings: Settings, store: ArtifactStore, status: Status, progress: Progress, followers: Sequence[Tracker]
) -> None:
    """The run itself, from where an earlier attempt left it."""
    saved = checkpoint.load(store)
    compute = device.choose(settings.device, settings.precision, saved.identity.arithmetic if saved else None)
    preflight.before_run(settings, compute)
    status.tell("data")
    dataset = load_data(settings, progress)
    builder = build.builder(settings.model, len(dataset.classes), settings.pretrained_weights)
    compute = engine.settle(compute, builder, min(settings.batch_size, len(dataset.train)))
    with runners.planned(settings, compute, progress.check) as plan:
        plan = runners.with_batches(plan, settings, builder, compute, saved.identity.arithmetic if saved else None)
        rounds_of = workers_a_round(settings, plan, saved)
        shaping = settings.shaping() | ({"WORKERS": str(rounds_of)} if settings.adapts and rounds_of > 1 else {})
        identity = checkpoint.Identity(shaping, dataset.sha256, compute.arithmetic() | plan.arithmetic())
        if saved is not None:
            checkpoint.check(saved, identity, store.uri)
        standing = saved.standing if saved else Standing()
        banner.begins(settings, store, compute, describe_data(dataset), status.attempt, standing)
        on_device = dataset.to(compute.device)

        with Keeper(store, identity, saved.sequence if saved else 0, partial(tell_standing, status)) as keeper:
            status.tell("tune" if settings.learning_rate is None else "train")
            trials = search(settings, builder, on_device, compute, progress, keeper, standing, plan, rounds_of)
            recipe = choose_recipe(settings, trials)
            status.tell("train")
            fitted = fit(settings, recipe, builder, on_device, compute, progress, keeper, standing, trials)
            keeper.flush()
            logits = engine.predict(fitted.model, on_device.test, compute, progress.batch).numpy()
            answers = answers_of(logits, dataset.test.labels.numpy(), dataset.test_names)
            evaluation = metrics.evaluate(answers, dataset.classes)
    progress.close()

    status.tell("report")
    finished = report.RunReport(
        run_name=settings.run_name,
        model=settings.model,
        structure=str(fitted.model),
        parameters=build.trainable_parameters(fitted.model),
        batch_size=settings.batch_size,
        recipe=recipe,
        trials=tuple(trials),
        history=fitted.history,
        device=compute.describe(),
        settings=settings.values(),
        sources=settings.sources(),
        data=describe_data(dataset),
        provenance=provenance.collect(compute) | {"workers": {**asdict(plan), "round": rounds_of}},
        answers=answers,
        evaluation=evaluation,
        thumbnails=dataset.test.images[[mistake.row for mistake in evaluation.mistakes]].numpy(),
    )
    model = {"weights.pt": build.weights_file(fitted.model), "model.json": describe_model(finished, dataset, compute)}
    files = {**report.files(finished), **model}
    publish.publish(store, files, settings, dataset.sha256, progress.check)
    checkpoint.remove(store)
    status.tell("finished")
    for follower in followers:
        follower.finished(report.as_json(finished), files)
    banner.append(settings.github_step_summary, report.markdown(finished, store.uri))
    banner.ends(finished, store.uri, [*files, publish.MANIFEST])


def trackers(settings: Settings, store: ArtifactStore) -> AbstractContextManager[Sequence[Tracker]]:
    """Who else wants to know how this run goes."""
    return tracking.opened(
        settings.run_name,
        tensorboard_dir=settings.tensorboard_dir,
        mlflow_uri=settings.mlflow_tracking_uri,
        mlflow_experiment=settings.mlflow_experiment_name,
        parameters=settings.shaping(),
        tags={"output": store.uri},
    )


def is_finished(settings: Settings, store: ArtifactStore) -> bool:
    """Whether this very run is finished already; then what a kill in its last moment left is removed."""
    if not publish.finished_already(store, settings, lambda: load_data(settings, Progress("off")).sha256):
        return False
    checkpoint.remove(store)
    event("finished", f"finished already: the files are in {store.uri} (FRESH=1 runs it again)", uri=store.uri)
    return True


def start_over(store: ArtifactStore) -> None:
    """Removes what an earlier run of this name left: the manifest first, from there on it counts as not finished."""
    publish.remove(store)
    checkpoint.remove(store)
    store.delete(STATUS)


def tell_standing(status: Status, standing: Standing) -> None:
    """Writes into the status how far the state that has just become durable goes."""
    phase = "train" if standing.part == FINAL else "tune"
    status.tell(phase, trials_finished=len(standing.trials), epochs_of_part=standing.epochs_of_part)


def workers_a_round(settings: Settings, plan: Plan, saved: checkpoint.Saved | None) -> int:
    """How many trials are suggested at a time after the start-up: WORKERS, or what `auto` meant when the run began."""
    if saved is not None and settings.workers == "auto":
        return int(saved.identity.settings.get("WORKERS", 1))
    return plan.workers


def search(
    settings: Settings,
    builder: Callable[[], nn.Module],
    dataset: Dataset,
    compute: Compute,
    progress: Progress,
    keeper: Keeper,
    standing: Standing,
    plan: Plan,
    rounds_of: int,
) -> list[Trial]:
    """All trials on the tuning subset; none where LEARNING_RATE and EPOCHS are given."""
    tuned = settings.learning_rate is None
    rows, validation_rows = data.tuning_rows(len(dataset.train), settings.tune_percent, settings.seed)
    begun = standing.part if isinstance(standing.part, int) else -1
    paused = paused_at(standing, begun)
    progress.begin(
        Work(
            trials=settings.max_evals if tuned else 0,
            trial_epochs=settings.tune_max_epochs,
            patience=settings.patience,
            trial_images=Work.images(len(rows), len(validation_rows)),
            final_images=Work.images(len(dataset.train), len(dataset.test)),
            final_epochs=settings.epochs,
            workers=plan.workers,
        ),
        finished=standing.trials,
        running=len(paused.history) if paused else 0,
    )
    if not tuned:
        return []
    random_trials = min(settings.tune_startup_trials, settings.max_evals)
    event(
        "tune",
        f"tune: {settings.max_evals} trials of up to {settings.tune_max_epochs} epochs on {len(rows):,} images, "
        f"{len(validation_rows):,} for validation; learning rates are random draws up to trial {random_trials}"
        + (f", then suggested by TPE in rounds of {rounds_of}" if settings.adapts else "")
        + f"; {plan.describe()}",
        trials=settings.max_evals,
        random_trials=random_trials,
    )
    finished = {trial.number: trial for trial in standing.trials}

    def on_epoch(number: int, rate: float, history: Sequence[Epoch], learner: Learner | None) -> None:
        progress.trial_epoch(number, rate, history[-1], len(rows), len(validation_rows))
        if learner is None:
            progress.batch(len(rows) + len(validation_rows))
        else:
            keeper.offer(lambda: Standing(in_order(finished), number, tuple(history), snapshot(learner)))

    def on_trial(trial: Trial) -> None:
        finished[trial.number] = trial
        kept = standing if paused and begun not in finished else Standing()  # what was begun of a trial still waiting
        if plan.kind != "batched":
            keeper.hand_over(replace(kept, trials=in_order(finished)))
        progress.trial_done(trial)
        tell_trial(trial, settings.max_evals)

    def on_group(group: Sequence[Trial], copied: Callable[[], dict[str, Any]]) -> None:
        """A group's state goes with the trials that had ended by then: together they are where the run stood."""
        if not group:
            keeper.hand_over(Standing(in_order(finished)))
        else:
            keeper.offer(lambda: Standing(in_order(finished), learner=copied(), begun=tuple(group)))

    tuning, validation = dataset.train.take(rows), dataset.train.take(validation_rows)
    setup = Setup(settings, builder, tuning, validation, compute)
    callbacks = Callbacks(on_batch=progress.batch, on_epoch=on_epoch, on_group=on_group)
    group = Begun(standing.begun, standing.learner) if standing.begun and standing.learner is not None else None
    with runners.open_runner(plan, setup, callbacks, group) as runner:
        return tune.search(
            settings, runner, rounds_of, on_trial, standing.trials, {begun: paused} if paused is not None else {}
        )


def in_order(trials: dict[int, Trial]) -> tuple[Trial, ...]:
    """By number, whatever the order in which they ended."""
    return tuple(trials[number] for number in sorted(trials))


def tell_trial(trial: Trial, of: int) -> None:
    outcome = trial.failure or f"validation_loss={trial.validation_loss:.4f} best_epoch={trial.best_epoch}"
    event(
        "trial",
        f"tune trial={trial.number + 1}/{of} learning_rate={trial.learning_rate:.6f} {outcome} "
        f"epochs={len(trial.epochs)} seconds={trial.seconds:.1f}",
        **{name: value for name, value in report.trial_json(trial).items() if name != "epochs"},
    )


def paused_at(standing: Standing, part: int | str) -> Paused | None:
    """What an earlier attempt did of this part, where it was at it."""
    if standing.part != part or standing.learner is None:
        return None
    return Paused(standing.history, standing.learner)


def choose_recipe(settings: Settings, trials: Sequence[Trial]) -> Recipe:
    """The winning trial's learning rate and best epoch, or the user's own."""
    best = winner(trials)
    if best is not None:
        return Recipe(best.learning_rate, best.best_epoch, best.number)
    assert settings.learning_rate is not None
    assert settings.epochs is not None
    return Recipe(settings.learning_rate, settings.epochs, None)


def fit(
    settings: Settings,
    recipe: Recipe,
    builder: Callable[[], nn.Module],
    dataset: Dataset,
    compute: Compute,
    progress: Progress,
    keeper: Keeper,
    standing: Standing,
    trials: Sequence[Trial],
) -> training.Fitted:
    """The final training on the whole training set."""
    paused = paused_at(standing, FINAL)
    progress.training_begins(recipe.epochs, len(paused.history) if paused else 0)
    event(
        "train",
        f"train: {recipe.epochs} epochs on {len(dataset.train):,} images, learning_rate={recipe.learning_rate:.6f} "
        + ("(given)" if recipe.trial is None else f"(from trial {recipe.trial + 1})")
        + f", about {report.duration(progress.seconds_left())}" * (progress.images > 0),
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
    )

    def on_epoch(history: Sequence[Epoch], learner: Learner) -> None:
        progress.final_epoch(history[-1], len(dataset.train), len(dataset.test))
        keeper.offer(lambda: Standing(tuple(trials), FINAL, tuple(history), snapshot(learner)))

    return training.fit(
        settings,
        recipe,
        builder,
        dataset.train,
        dataset.test,
        compute,
        on_batch=progress.batch,
        on_epoch=on_epoch,
        paused=paused,
    )


def describe_data(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "origin": dataset.origin,
        "classes": list(dataset.classes),
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "sha256": dataset.sha256,
    }


def describe_model(finished: report.RunReport, dataset: Dataset, compute: Compute) -> bytes:
    """`model.json`: all that is needed beside `weights.pt` to load the model, feed it and check its figures."""
    content = {
        "model": finished.model,
        "num_classes": len(dataset.classes),
        "classes": list(dataset.classes),
        "image_size": dataset.test.images.shape[1],
        "mean": list(engine.MEAN),
        "std": list(engine.STD),
        "precision": compute.precision,
        "torch": torch.__version__,
        "test": report.as_json(finished)["test"],
        "dataset": dataset.name,
        "data_sha256": dataset.sha256,
    }
    return (json.dumps(content, indent=2) + "\n").encode()
