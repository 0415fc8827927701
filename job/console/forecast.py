"""The time that is left, from amounts of work: what a run's parts cost, and how much of them is done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from job.results import Trial, winner

EVALUATION_COST = 1 / 3  # of an image's forward pass alone, against forward, backward and update
EXPECTED_BEST_EPOCH = 10  # of a winner, before anything is known; the origin's and the README's had theirs at 3 to 13
USUAL_BEST_EPOCH = 7.0  # of a trial whose rate is not small: 3 to 5 of `mlp`, 8 to 15 of `cnn` (docs/configuration.md)
SMALL, SLOWER = 0.015, 0.6  # below so much of the rate times the steps of an epoch, that power of it longer


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
    `bests` are the epochs after which trials are expected to have their lowest loss, by number.
    """

    trials: int
    trial_epochs: int
    patience: int
    trial: Images
    final: Images
    final_epochs: int | None
    workers: int = 1
    search_epochs: float | None = None
    bests: tuple[float, ...] = ()

    def best(self, number: int) -> float:
        """Of a trial whose rate is not known yet it is the mean of the others."""
        if number < len(self.bests):
            return self.bests[number]
        return sum(self.bests) / len(self.bests) if self.bests else EXPECTED_BEST_EPOCH

    def epochs(self, number: int, longer: float = 1.0) -> float:
        """How many a trial is expected to take, where trials take `longer` times as long to their best one."""
        return min(self.trial_epochs, longer * self.best(number) + self.patience)

    @property
    def tuning_epochs(self) -> float:
        """Of all trials together, before anything is known."""
        return self.search_epochs or sum(map(self.epochs, range(self.trials)))


@dataclass
class Done:
    """What of it is done: the trials that are `finished`, epochs of the trial that is `running` here, of each one that
    is under way by its number, and of the final training, whose length is known once it begins: the search is over.
    """

    finished: list[Trial] = field(default_factory=list)
    running: int = 0
    under_way: dict[int, int] = field(default_factory=dict)
    final: int = 0
    final_epochs: int | None = None


def expected_best(rate: float, steps: int) -> float:
    """After how many epochs of so many steps a trial at this learning rate is expected to have its lowest loss."""
    return float(USUAL_BEST_EPOCH * max(1.0, (SMALL / (rate * steps)) ** SLOWER))


def expected_epochs(most: int, patience: int) -> int:
    """How long a trial is expected to take of whose rate nothing is known."""
    return min(most, EXPECTED_BEST_EPOCH + patience)


def longer(work: Work, finished: Sequence[Trial]) -> float:
    """How many times as long as expected trials take to their best epochs, by those that are finished, among which one
    that took as long as expected is counted.
    """
    usual = sum(map(work.best, range(work.trials))) / work.trials
    went_well = [trial for trial in finished if not trial.failure]
    took = sum(trial.best_epoch for trial in went_well)
    return (took + usual) / (sum(work.best(trial.number) for trial in went_well) + usual)


def remaining(work: Work, done: Done, workers: int = 1) -> tuple[float, float]:
    """The cost (see `Images`) of what is left of the search and of the final training; with `workers`, of what one of
    them does in the time that they take.

    What is not known yet is assumed: trials take as many times longer than expected as the finished ones did, and the
    final training as many epochs as the best of those had, among which one of `EXPECTED_BEST_EPOCH` is counted.
    """
    if work.search_epochs is not None:
        return remaining_of_halving(work, done, work.search_epochs, workers)
    tuning, usual = 0.0, float(EXPECTED_BEST_EPOCH)
    if done.final_epochs is None and work.trials:
        times = longer(work, done.finished)
        ended = {trial.number for trial in done.finished}
        for number in set(range(work.trials)) - ended:
            begun = done.under_way.get(number, 0)
            tuning += max(work.epochs(number, times), begun + 1) - begun
        best, known = winner(done.finished), len(done.finished)
        usual = min(work.trial_epochs, times * EXPECTED_BEST_EPOCH)
        usual = (known * best.best_epoch + usual) / (known + 1) if best else usual
    final = done.final_epochs or work.final_epochs or max(1.0, usual)
    return tuning * work.trial.cost / workers, max(0.0, final - done.final) * work.final.cost


def remaining_of_halving(work: Work, done: Done, search_epochs: float, workers: int) -> tuple[float, float]:
    """The same where the search stops most of its trials: what the winner takes is not what they took on average."""
    taken = sum(len(trial.epochs) for trial in done.finished) + sum(done.under_way.values())
    under_way = done.final_epochs is None and work.trials > len(done.finished)
    tuning = max(1.0, search_epochs - taken) if under_way else 0.0
    usual = expected_epochs(work.trial_epochs, work.patience)
    final = done.final_epochs or work.final_epochs or max(1, usual - work.patience)
    return tuning * work.trial.cost / workers, max(0.0, final - done.final) * work.final.cost


def clock(seconds: float) -> str:
    """`Mm Ss`, with hours in front where there are any; without spaces it would read as one value in a log line."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{rest:02d}s"
