"""How a run shows where it stands: a bar on a terminal, a line an epoch elsewhere, and the time that is left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from tqdm import tqdm

from job.console.logs import event
from job.results import Epoch, Trial

EVALUATION_COST = 1 / 3  # of an image's forward pass alone, against forward, backward and update
EXPECTED_BEST_EPOCH = 10  # before anything is known; the origin's and the README's runs had theirs at 3 to 13
LINE_EVERY_SECONDS = 10.0  # for downloads and decoding, where there is no terminal


@dataclass(frozen=True)
class Work:
    """The size of a run's parts, in images; an evaluated image counts as a third of a trained one.

    `patience` is how many epochs a trial goes on after its best one, `workers` how many trials run at the same time.
    """

    trials: int
    trial_epochs: int
    patience: int
    trial_images: float
    final_images: float
    final_epochs: int | None
    workers: int = 1

    @staticmethod
    def images(train: int, heldout: int) -> float:
        """The cost of one epoch."""
        return train + heldout * EVALUATION_COST


def expected_epochs(most: int, patience: int) -> int:
    """How long a trial is expected to take while none is finished."""
    return min(most, EXPECTED_BEST_EPOCH + patience)


def remaining(
    work: Work,
    finished: Sequence[int],
    running: int,
    final_epochs: int | None,
    final_done: int,
    workers: int = 1,
    others: int = 0,
) -> tuple[float, float]:
    """The images still to go in the search and in the final training; with `workers`, as many as go by in the time that
    they take.

    `finished` holds the epochs each finished trial took, `running` those of the trial under way, `others` those of all
    that are under way beside it. What is not known yet is assumed: a trial takes as long as the finished ones did on
    average (see `expected_epochs` before there are any), and the final training as many epochs as a trial's best, which
    its patience follows.
    """
    usual = sum(finished) / len(finished) if finished else expected_epochs(work.trial_epochs, work.patience)
    waiting = work.trials - len(finished)
    tuning = (
        max(0.0, max(usual, running + 1) - running) + max(0.0, (waiting - 1) * usual - others) if waiting > 0 else 0.0
    )
    expected = final_epochs or work.final_epochs or max(1.0, usual - work.patience)
    return tuning * work.trial_images / workers, max(0.0, expected - final_done) * work.final_images


class Follower(Protocol):
    """Somebody else who wants to know how the run goes."""

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> object: ...

    def trial_done(self, trial: Trial) -> object: ...

    def final_epoch(self, epoch: Epoch) -> object: ...


class Progress:
    """Shows the run's progress as `bar`, `line` or `off`, and passes it on to `followers`. One object for a whole run.

    `check` is called at every batch, image or block of a download, and may raise to stop the work there.
    """

    def __init__(self, mode: str, check: Callable[[], object] = lambda: None) -> None:
        self.mode = mode
        self.check = check
        self.followers: Sequence[Follower] = ()
        self.work: Work | None = None
        self.finished: list[int] = []
        self.running = 0
        self.under_way: dict[int, int] = {}  # epochs of every trial that has begun and not ended, by number
        self.final_epochs: int | None = None
        self.final_done = 0
        self.images = 0.0
        self.seconds = 0.0
        self._bar: tqdm[Any] | None = None

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Callable[[int], object]]:
        """Progress of one piece of work that is not training. Gives a function that takes what has been done since."""
        if self.mode == "bar":
            with tqdm(total=total, desc=title, unit=unit, unit_scale=True, **screen()) as bar:

                def move(count: int) -> None:
                    self.check()
                    bar.update(count)

                yield move
            return
        done, said = 0, time.monotonic()

        def update(count: int) -> None:
            nonlocal done, said
            self.check()
            done += count
            if self.mode == "line" and time.monotonic() - said >= LINE_EVERY_SECONDS:
                said = time.monotonic()
                share = f" ({100 * done / total:.0f} %)" if total else ""
                event("progress", f"{title}: {done:,} {unit}{share}", title=title, done=done, total=total)

        yield update

    def begin(self, work: Work, finished: Sequence[Trial] = (), running: int = 0) -> None:
        """Starts counting the time that is left; what an earlier attempt did (`running`: epochs) is not done again."""
        self.work = work
        self.finished = [len(trial.epochs) for trial in finished]
        self.running = running

    def batch(self, images: int) -> None:
        """Moves the bar by one batch."""
        self.check()
        if self.mode != "bar" or self.work is None:
            return
        if self._bar is None:
            total = round(self._images_left())
            self._bar = tqdm(total=total, unit="img", unit_scale=True, **screen(), file=sys.stderr)
        if self.final_epochs is None:
            title = f"tune {len(self.finished) + 1}/{self.work.trials} epoch {self.running + 1}"
        else:
            title = f"train epoch {self.final_done + 1}/{self.final_epochs}"
        self._bar.set_description(title, refresh=False)
        self._bar.update(images)

    def trial_epoch(
        self, trial: int, learning_rate: float, epoch: Epoch, train_count: int, validation_count: int
    ) -> None:
        assert self.work is not None
        self.running = self.under_way[trial] = epoch.number
        self._measure(epoch, train_count, validation_count)
        for follower in self.followers:
            follower.trial_epoch(trial, learning_rate, epoch)
        self._say(
            "tune",
            epoch,
            train_count,
            f"tune trial={trial + 1}/{self.work.trials} learning_rate={learning_rate:.6f}",
            "validation",
            trial=trial + 1,
            learning_rate=learning_rate,
        )

    def trial_done(self, trial: Trial) -> None:
        self.finished.append(len(trial.epochs))
        self.under_way.pop(trial.number, None)
        self.running = 0
        for follower in self.followers:
            follower.trial_done(trial)

    def training_begins(self, epochs: int, done: int) -> None:
        assert self.work is not None
        self.final_done = done
        self.finished += [0] * (self.work.trials - len(self.finished))
        self.final_epochs = epochs

    def final_epoch(self, epoch: Epoch, train_count: int, test_count: int) -> None:
        self.final_done = epoch.number
        self._measure(epoch, train_count, test_count)
        for follower in self.followers:
            follower.final_epoch(epoch)
        self._say("train", epoch, train_count, "train", "test", of=self.final_epochs)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def seconds_left(self) -> float:
        """An estimate for the whole job, from the speed so far."""
        workers = self.work.workers if self.work else 1
        return self._images_left(workers) * self.seconds / self.images if self.images else 0.0

    def _images_left(self, workers: int = 1) -> float:
        return sum(self._parts_left(workers))

    def _parts_left(self, workers: int) -> tuple[float, float]:
        assert self.work is not None
        others = max(0, sum(self.under_way.values()) - self.running)
        return remaining(self.work, self.finished, self.running, self.final_epochs, self.final_done, workers, others)

    def _measure(self, epoch: Epoch, train_count: int, heldout_count: int) -> None:
        first = self.images == 0
        self.images += Work.images(train_count, heldout_count)
        self.seconds += epoch.seconds
        if first:
            self._say_expected()

    def _say_expected(self) -> None:
        """How long both phases will take, as soon as one epoch has been measured."""
        assert self.work is not None
        tuning, training = (images * self.seconds / self.images for images in self._parts_left(self.work.workers))
        if self.final_epochs is None:
            usual = expected_epochs(self.work.trial_epochs, self.work.patience)
            text = f"search about {clock(tuning)} (if trials take {usual} epochs), then training {clock(training)}"
        else:
            text = f"training about {clock(training)}"
        event("expected", f"expected: {text}", search_seconds=round(tuning), training_seconds=round(training))

    def _say(self, phase: str, epoch: Epoch, train_count: int, head: str, heldout: str, **fields: Any) -> None:
        values: dict[str, Any] = {
            "epoch": epoch.number,
            "train_loss": epoch.train.loss,
            "train_accuracy": epoch.train.accuracy,
            f"{heldout}_loss": epoch.heldout.loss,
            f"{heldout}_accuracy": epoch.heldout.accuracy,
            "images_per_second": train_count / epoch.seconds if epoch.seconds > 0 else 0.0,
        }
        left = self.seconds_left()
        if self._bar is not None:
            self._bar.total = self._bar.n + round(self._images_left())
            self._bar.set_postfix_str(f"{heldout}_loss={epoch.heldout.loss:.4f}, {clock(left)} left", refresh=False)
        if self.mode == "off" or (self.mode == "bar" and phase == "tune"):
            return
        text = " ".join(f"{name}={shown(value)}" for name, value in values.items())
        event("epoch", f"{head} {text} left={clock(left)}", phase=phase, **fields, **values, seconds_left=round(left))


def screen() -> dict[str, Any]:
    """The terminal's size as tqdm takes it; 100 by 24 where it does not say (`docker run -t` starts with 0 by 0)."""
    size = shutil.get_terminal_size((100, 24))
    return {"ncols": size.columns, "nrows": size.lines}


def mode(wanted: str, log_format: str) -> str:
    """`bar`, `line` or `off`: `auto` takes the bar where a person looks on, and JSON never has one."""
    if log_format == "json":
        return "off" if wanted == "off" else "line"
    if wanted != "auto":
        return wanted
    return "bar" if sys.stderr.isatty() and sys.stdout.isatty() else "line"


def shown(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"


def clock(seconds: float) -> str:
    """`Mm Ss`, with hours in front where there are any; without spaces it would read as one value in a log line."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
