"""The time that is left, from amounts of work: what a run's parts cost, and how much of them is done."""

from __future__ import annotations

from dataclasses import dataclass, field

EVALUATION_COST = 1 / 3  # of an image's forward pass alone, against forward, backward and update
EXPECTED_BEST_EPOCH = 10  # before anything is known; the origin's and the README's runs had theirs at 3 to 13


@dataclass(frozen=True)
class Images:
    """What one epoch goes over."""

    train: int
    heldout: int

    @property
    def cost(self) -> float:
        """In trained images: an evaluated one counts as a third of one."""
        return self.train + self.heldout * EVALUATION_COST


@dataclass(frozen=True)
class Work:
    """The size of a run's parts: how many trials of how many epochs over which images, and the final training.

    `patience` is how many epochs a trial goes on after its best one, `workers` how many trials run at the same time.
    `search_epochs` is what all trials take together where that is known about beforehand, with successive halving.
    """

    trials: int
    trial_epochs: int
    patience: int
    trial: Images
    final: Images
    final_epochs: int | None
    workers: int = 1
    search_epochs: float | None = None


@dataclass
class Done:
    """What of it is done: epochs of each `finished` trial, of the trial that is `running` here, of every one that is
    under way by its number, and of the final training, whose length is known once it begins.
    """

    finished: list[int] = field(default_factory=list)
    running: int = 0
    under_way: dict[int, int] = field(default_factory=dict)
    final: int = 0
    final_epochs: int | None = None


def expected_epochs(most: int, patience: int) -> int:
    """How long a trial is expected to take while none is finished."""
    return min(most, EXPECTED_BEST_EPOCH + patience)


def remaining(work: Work, done: Done, workers: int = 1) -> tuple[float, float]:
    """The cost (see `Images`) of what is left of the search and of the final training; with `workers`, of what one of
    them does in the time that they take.

    What is not known yet is assumed: a trial takes as long as the finished ones did on average, among which one of
    `expected_epochs` is counted, and the final training as many epochs as the longest trial had up to its best one: a
    winner rarely ends early.
    """
    known = len(done.finished)
    if work.search_epochs is not None:
        return remaining_of_halving(work, done, work.search_epochs, workers)
    usual = (sum(done.finished) + expected_epochs(work.trial_epochs, work.patience)) / (known + 1)
    tuning = 0.0
    if work.trials > known:
        others = max(0, sum(done.under_way.values()) - done.running)
        mine = max(usual, done.running + 1) - done.running
        tuning = max(0.0, mine) + max(0.0, (work.trials - known - 1) * usual - others)
    longest = max(done.finished, default=0) or usual
    final = done.final_epochs or work.final_epochs or max(1.0, longest - work.patience)
    return tuning * work.trial.cost / workers, max(0.0, final - done.final) * work.final.cost


def remaining_of_halving(work: Work, done: Done, search_epochs: float, workers: int) -> tuple[float, float]:
    """The same where the search stops most of its trials: what the winner takes is not what they took on average."""
    taken = sum(done.finished) + sum(done.under_way.values())
    tuning = max(1.0, search_epochs - taken) if work.trials > len(done.finished) else 0.0
    usual = expected_epochs(work.trial_epochs, work.patience)
    final = done.final_epochs or work.final_epochs or max(1, usual - work.patience)
    return tuning * work.trial.cost / workers, max(0.0, final - done.final) * work.final.cost


def clock(seconds: float) -> str:
    """`Mm Ss`, with hours in front where there are any; without spaces it would read as one value in a log line."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
