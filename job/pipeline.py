"""The story of a run: settings → data → tune → train → report → publish. The one file that knows every stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from job import build, data, device, provenance, publish, report, storage, train, tune
from job.data import Dataset
from job.device import Compute
from job.interrupt import Stop
from job.logs import event
from job.progress import Progress, Work
from job.results import Recipe, Trial, winner
from job.settings import Settings
from job.storage import ArtifactStore

KAGGLE_INPUT = Path("/kaggle/input")


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Does what is left to do of this run, from nothing to all of it.

    Raises Fault, TemporaryFault or Interrupted; returns only when the run is finished and published.
    """
    store = storage.open_store(settings.output, settings.run_name)
    if publish.finished_already(store, settings, lambda: load_data(settings, Progress("off")).sha256):
        return
    compute = device.choose(settings.device, settings.precision)
    dataset = load_data(settings, progress)
    announce(settings, store, compute, dataset)
    builder = build.builder(settings.model, len(dataset.classes), settings.pretrained_weights)
    on_device = dataset.to(compute.device)

    trials = search(settings, builder, on_device, compute, progress, stop)
    recipe = choose_recipe(settings, trials)
    fitted = fit(settings, recipe, builder, on_device, compute, progress, stop)
    progress.close()

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
        provenance=provenance.collect(compute),
    )
    files = {**report.files(finished), "weights.pt": build.weights_file(fitted.model)}
    publish.publish(store, files, settings, dataset.sha256)
    event("results", report.text(finished).rstrip(), **report.as_json(finished)["test"])
    event("finished", f"finished: the files are in {store.uri}", uri=store.uri)


def load_data(settings: Settings, progress: Progress) -> Dataset:
    """The data set on the CPU. A copy that Kaggle mounts is looked for only where DATA_DIR was not given."""
    return data.load(
        settings.dataset,
        settings.data_dir,
        urls=settings.data_url,
        limit=settings.data_limit,
        seed=settings.seed,
        bar=progress.bar,
        open_s3=storage.open_object,
        kaggle_input=None if "data_dir" in settings.model_fields_set else KAGGLE_INPUT,
    )


def announce(settings: Settings, store: ArtifactStore, compute: Compute, dataset: Dataset) -> None:
    event(
        "run",
        f"run {settings.run_name}: {settings.model} on {dataset.name} ({dataset.origin}), "
        f"{len(dataset.train):,} training and {len(dataset.test):,} test images, {len(dataset.classes)} classes",
        run=settings.run_name,
        model=settings.model,
        data=describe_data(dataset),
    )
    event(
        "device",
        f"device {compute.device}: {compute.hardware}; {compute.precision}: {compute.reason}; output {store.uri}",
        device=str(compute.device),
        hardware=compute.hardware,
        precision=compute.precision,
        reason=compute.reason,
        output=store.uri,
    )


def search(
    settings: Settings,
    builder: Callable[[], nn.Module],
    dataset: Dataset,
    compute: Compute,
    progress: Progress,
    stop: Stop,
) -> list[Trial]:
    """All trials on the tuning subset; none where LEARNING_RATE and EPOCHS are given."""
    tuned = settings.learning_rate is None
    rows, validation_rows = data.tuning_rows(len(dataset.train), settings.tune_percent, settings.seed)
    progress.begin(
        Work(
            trials=settings.max_evals if tuned else 0,
            trial_epochs=settings.tune_max_epochs,
            trial_images=Work.images(len(rows), len(validation_rows)),
            final_images=Work.images(len(dataset.train), len(dataset.test)),
            final_epochs=settings.epochs,
        )
    )
    if not tuned:
        return []
    random_trials = min(settings.tune_startup_trials, settings.max_evals)
    event(
        "tune",
        f"tune: {settings.max_evals} trials of up to {settings.tune_max_epochs} epochs on {len(rows):,} images, "
        f"{len(validation_rows):,} for validation; learning rates are random draws up to trial {random_trials}"
        + (", then suggested by TPE" if settings.max_evals > random_trials else ""),
        trials=settings.max_evals,
        random_trials=random_trials,
    )

    def on_batch(images: int) -> None:
        stop.check()
        progress.batch(images)

    def on_trial(trial: Trial) -> None:
        progress.trial_done(trial)
        outcome = trial.failure or f"validation_loss={trial.validation_loss:.4f} best_epoch={trial.best_epoch}"
        event(
            "trial",
            f"tune trial={trial.number + 1}/{settings.max_evals} learning_rate={trial.learning_rate:.6f} {outcome} "
            f"epochs={len(trial.epochs)} seconds={trial.seconds:.1f}",
            **{name: value for name, value in report.trial_json(trial).items() if name != "epochs"},
        )

    callbacks = tune.Callbacks(
        on_batch=on_batch,
        on_epoch=lambda number, rate, epoch: progress.trial_epoch(number, rate, epoch, len(rows), len(validation_rows)),
        on_trial=on_trial,
    )
    return tune.search(
        settings, builder, dataset.train.take(rows), dataset.train.take(validation_rows), compute, callbacks
    )


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
    stop: Stop,
) -> train.Fitted:
    """The final training on the whole training set."""
    progress.training_begins(recipe.epochs)
    event(
        "train",
        f"train: {recipe.epochs} epochs on {len(dataset.train):,} images, learning_rate={recipe.learning_rate:.6f} "
        + ("(given)" if recipe.trial is None else f"(from trial {recipe.trial + 1})")
        + f", about {report.duration(progress.seconds_left())}" * (progress.images > 0),
        epochs=recipe.epochs,
        learning_rate=recipe.learning_rate,
    )

    def on_batch(images: int) -> None:
        stop.check()
        progress.batch(images)

    return train.fit(
        settings,
        recipe,
        builder,
        dataset.train,
        dataset.test,
        compute,
        on_batch=on_batch,
        on_epoch=lambda learner, history: progress.final_epoch(history[-1], len(dataset.train), len(dataset.test)),
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
