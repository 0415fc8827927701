"""The beginning of a run: all that its stages need, made once, and where an earlier attempt left it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from job import device, preflight, tracking
from job.console.forecast import Work
from job.console.progress import Progress
from job.data import Dataset, places
from job.data.dataset import load_data, load_weights
from job.data.draws import tuning_counts
from job.data.places import Place
from job.data.pretrained import Pretrained
from job.device import Compute
from job.engine import build
from job.engine.proof import settle
from job.interrupt import Stop
from job.runs import checkpoint, code
from job.runs.budget import HOUR, Budget
from job.runs.checkpoint import Identity, Saved
from job.runs.keeper import Keeper
from job.runs.lock import Lock
from job.runs.pace import USUAL, Pace
from job.runs.standing import FINAL, START, Standing
from job.runs.status import Status
from job.search import runners
from job.search.runners import Plan
from job.search.workload import work_of
from job.settings import Settings
from job.storage import ArtifactStore
from job.tracking import Tracker, Wanted


@dataclass(frozen=True)
class Owned:
    """What the owner of a run writes through, how often, and what ends it: a signal, or another owner."""

    lock: Lock
    status: Status
    stop: Stop
    pace: Pace = USUAL

    @property
    def store(self) -> ArtifactStore:
        return self.lock.store

    @property
    def brief(self) -> ArtifactStore:
        return self.lock.brief

    def check(self) -> None:
        self.stop.check()
        self.lock.check()


@dataclass(frozen=True)
class Run:
    """What the stages of a run share.

    `data` lies on the device of `compute`, or its images where `place` says; `weights` are what a model starts from
    that does not start from random ones, `build` makes a fresh model, `plan` says who runs the trials. `standing` is
    where an earlier attempt left the run; `keeper` stores how far this one comes, under `identity`; `budget` is the
    time that it has.
    """

    settings: Settings
    owned: Owned
    progress: Progress
    data: Dataset
    place: Place
    weights: Pretrained | None
    compute: Compute
    build: build.Builder
    plan: Plan
    identity: Identity
    standing: Standing
    keeper: Keeper
    budget: Budget

    @cached_property
    def work(self) -> Work:
        data = self.data
        own = len(data.validation or ())
        return work_of(self.settings, len(data.train), len(data.test), own, self.plan.workers)


@contextmanager
def begun(settings: Settings, owned: Owned, progress: Progress) -> Iterator[Run]:
    """A run that is ready for its stages. When it is left, the plan's workers are gone and the last state is durable.

    Raises Fault where the settings, the data or the machine do not serve, or the saved state is of another run.
    """
    saved = checkpoint.load(owned.store)
    kept = saved.identity.arithmetic if saved else None
    budget = budget_of(settings, owned, saved.standing if saved else START)
    progress.check = both(owned.check, budget.check)
    compute = device.choose(settings.device, settings.precision, kept)
    preflight.before_run(settings, compute)
    owned.status.tell("data")
    data = load_data(settings, progress)
    weights = load_weights(settings, progress)
    builder = builder_of(settings, data, weights)
    compute = settle(compute, builder, settings.batch_size, epoch_sizes(settings, data))
    with runners.planned(settings, compute, progress.check) as plan:
        plan = runners.with_batches(plan, settings, builder, compute, kept)
        plan = runners.in_rounds(plan, settings, saved.identity.settings if saved else None)
        identity = identified(settings, data, weights, compute.arithmetic() | plan.arithmetic(), plan.round)
        if saved is not None:
            identity = checkpoint.goes_on(saved, identity, owned.store.uri)
        owned.status.computes_on(compute.hardware, identity.changes)
        owned.status.doubts(data.doubts())
        last = replace(saved, identity=identity) if saved else Saved(identity, 0, START)
        standing = last.standing
        data, at = places.placed(data, compute.device)
        with Keeper(owned.brief, last, owned.status.stands, owned.stop, owned.pace.states) as keeper:
            progress.check = both(both(owned.check, keeper.check), budget.check)
            begun = {trial.number: len(trial.epochs) for trial in standing.begun}
            if isinstance(standing.part, int):
                begun[standing.part] = len(standing.history)
            run = Run(
                settings, owned, progress, data, at, weights, compute, builder, plan, identity, standing, keeper, budget
            )
            progress.begin(run.work, standing.trials, begun)
            yield run


def budget_of(settings: Settings, owned: Owned, standing: Standing) -> Budget:
    """The run's time, from what earlier attempts told of theirs. One that has only to be published is not stopped."""
    limit = math.inf if settings.max_hours is None else settings.max_hours * HOUR
    trained = standing.part == FINAL and standing.final_epochs == len(standing.history)
    status = owned.status
    worked = max(standing.worked, status.worked)
    return Budget(limit, worked, tell=status.works, over=trained, news=owned.pace.news)


def builder_of(settings: Settings, data: Dataset, weights: Pretrained | None) -> build.Builder:
    """What makes the run's fresh models."""
    classes = len(data.classes)
    counting = build.balanced(data.train.labels, classes) if settings.class_weights == "balanced" else None
    start = weights.state if weights else None
    return build.Builder(settings.model, classes, settings.image_size, start, counting, settings.way)


def epoch_sizes(settings: Settings, data: Dataset) -> tuple[int, ...]:
    """How many images the epochs of the run have: those of a trial, and of the final training."""
    if settings.learning_rate is not None:
        return (len(data.train),)
    return tuning_counts(len(data.train), settings.tune_percent, len(data.validation or ()))[0], len(data.train)


def both(first: Callable[[], object], second: Callable[[], object]) -> Callable[[], None]:
    def check() -> None:
        first()
        second()

    return check


def identified(
    settings: Settings, data: Dataset, weights: Pretrained | None, arithmetic: dict[str, Any], round_: int
) -> Identity:
    """What must be the same for a saved state to be continued."""
    rounds = {"WORKERS": str(round_)} if settings.adapts and round_ > 1 else {}
    pretrained = weights.sha256 if weights else None
    return Identity(settings.shaping() | rounds, data.sha256, arithmetic, code.of(settings.model), pretrained)


def trackers(settings: Settings, store: ArtifactStore) -> AbstractContextManager[Sequence[Tracker]]:
    """Who else wants to know how this run goes."""
    wanted = Wanted(settings.tensorboard_dir, settings.mlflow_tracking_uri, settings.mlflow_experiment_name)
    return tracking.opened(settings.run_name, wanted, settings.shaping(), {"output": store.uri})
