"""How a run shows where it stands: a bar on a terminal, a line an epoch elsewhere, and the time that is left."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from tqdm import tqdm

from job.console.forecast import Done, Images, Work, clock, remaining
from job.console.logs import event
from job.results import WAITS, Epoch, Trial, rate

KEPT = 0.9  # of what was measured before, at each epoch: a neighbour that has left the machine is soon forgotten
NOTHING: Mapping[int, int] = {}
LINE_EVERY_SECONDS = 10.0  # for downloads and decoding, where there is no terminal


class Move(Protocol):
    """Moves a bar on; may raise to stop the work."""

    def __call__(self, count: int, total: int | None = None) -> object: ...


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
        self.done = Done()
        self._measured = 0.0  # cost (see `Images`) of the epochs that `_seconds` were measured for
        self._seconds = 0.0
        self._bar: tqdm[Any] | None = None

    @contextmanager
    def bar(self, title: str, total: int | None, unit: str) -> Iterator[Move]:
        """Progress of one piece of work that is not training. Gives a function that takes what has been done since, and
        the total once it is known.
        """
        if self.mode == "bar":
            with tqdm(total=total, desc=title, unit=unit, unit_scale=True, **screen()) as bar:

                def move(count: int, total: int | None = None) -> None:
                    self.check()
                    bar.total = total or bar.total
                    bar.update(count)

                yield move
            return
        done, said, of = 0, time.monotonic(), total

        def update(count: int, total: int | None = None) -> None:
            nonlocal done, said, of
            self.check()
            done += count
            of = total or of
            if self.mode == "line" and time.monotonic() - said >= LINE_EVERY_SECONDS:
                said = time.monotonic()
                share = f" ({100 * done / of:.0f} %)" if of else ""
                event("progress", f"{title}: {done:,} {unit}{share}", title=title, done=done, total=of)

        yield update

    def begin(self, work: Work, finished: Sequence[Trial] = (), begun: Mapping[int, int] = NOTHING) -> None:
        """Starts counting the time that is left; what an earlier attempt did is not done again (`begun`: epochs of
        trials that it did not end, by number).
        """
        self.work = work
        waiting = {trial.number: len(trial.epochs) for trial in finished if trial.ending == WAITS}
        ended = [trial for trial in finished if trial.ending != WAITS]
        self.done = Done(ended, max(begun.values(), default=0), waiting | dict(begun))

    def batch(self, images: int) -> None:
        """Moves the bar by one batch."""
        self.check()
        if self.mode != "bar" or self.work is None:
            return
        if self._bar is None:
            total = round(self._images_left())
            self._bar = tqdm(total=total, unit="img", unit_scale=True, **screen(), file=sys.stderr)
        if self.done.final_epochs is None:
            title = f"tune {len(self.done.finished) + 1}/{self.work.trials} epoch {self.done.running + 1}"
        else:
            title = f"train epoch {self.done.final + 1}/{self.done.final_epochs}"
        self._bar.set_description(title, refresh=False)
        self._bar.update(images)

    def trial_epoch(self, trial: int, learning_rate: float, epoch: Epoch) -> None:
        assert self.work is not None
        self.done.running = self.done.under_way[trial] = epoch.number
        self._measure(epoch, self.work.trial)
        for follower in self.followers:
            follower.trial_epoch(trial, learning_rate, epoch)
        self._say(
            "tune",
            epoch,
            self.work.trial,
            f"tune trial={trial + 1}/{self.work.trials} learning_rate={rate(learning_rate)}",
            "validation",
            trial=trial + 1,
            learning_rate=learning_rate,
        )

    def trial_done(self, trial: Trial) -> None:
        self.done.finished.append(trial)
        self.done.under_way.pop(trial.number, None)
        self.done.running = 0
        for follower in self.followers:
            follower.trial_done(trial)

    def trial_waits(self) -> None:
        """A trial has come to its rung: another one runs now."""
        self.done.running = 0

    def training_begins(self, epochs: int, done: int) -> None:
        self.done.final, self.done.final_epochs = done, epochs

    def final_epoch(self, epoch: Epoch) -> None:
        assert self.work is not None
        self.done.final = epoch.number
        self._measure(epoch, self.work.final)
        for follower in self.followers:
            follower.final_epoch(epoch)
        self._say("train", epoch, self.work.final, "train", "test", of=self.done.final_epochs)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def seconds_left(self) -> float:
        """An estimate for the whole job, from the speed so far; 0 while none is known."""
        return sum(self._parts_left())

    def _parts_left(self) -> tuple[float, float]:
        """Seconds of search and final training that are left."""
        if self.work is None or not self._measured:
            return 0.0, 0.0
        tuning, training = remaining(self.work, self.done, self.work.workers)
        return tuning * self._seconds / self._measured, training * self._seconds / self._measured

    def _images_left(self) -> float:
        assert self.work is not None
        return sum(remaining(self.work, self.done))

    def _measure(self, epoch: Epoch, images: Images) -> None:
        first = self._measured == 0
        self._measured = KEPT * self._measured + images.cost
        self._seconds = KEPT * self._seconds + epoch.seconds
        if first:
            self._say_expected()

    def _say_expected(self) -> None:
        """How long both phases will take, as soon as one epoch has been measured."""
        assert self.work is not None
        tuning, training = self._parts_left()
        if self.done.final_epochs is None:
            usual = round(self.work.tuning_epochs / self.work.trials)
            text = f"search about {clock(tuning)} (if trials take {usual} epochs), then training {clock(training)}"
        else:
            text = f"training about {clock(training)}"
        event("expected", f"expected: {text}", search_seconds=round(tuning), training_seconds=round(training))

    def _say(self, phase: str, epoch: Epoch, images: Images, head: str, heldout: str, **fields: Any) -> None:
        values: dict[str, Any] = {
            "epoch": epoch.number,
            "train_loss": epoch.train.loss,
            "train_accuracy": epoch.train.accuracy,
            f"{heldout}_loss": epoch.heldout.loss,
            f"{heldout}_accuracy": epoch.heldout.accuracy,
            "images_per_second": images.train / epoch.seconds if epoch.seconds > 0 else 0.0,
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


def mode(wanted: str, log_format: str, notebook: bool = False) -> str:
    """`bar`, `line` or `off`: `auto` takes the bar where a person looks on a terminal, which a notebook's cell only
    pretends to be, and JSON never has one.
    """
    if log_format == "json":
        return "off" if wanted == "off" else "line"
    if wanted != "auto":
        return wanted
    return "bar" if sys.stderr.isatty() and sys.stdout.isatty() and not notebook else "line"


def shown(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"
