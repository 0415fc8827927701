"""What `SEARCH=halving` would have made of searches that were run whole.

python -m bench.halving RUN_FOLDER...

Each folder holds the `results.json` of a finished run with `SEARCH=full`. Its start-up trials are stopped where halving
would have stopped them: their losses up to there are the same. Tells for each search whether halving keeps the winner,
how far the loss of its own winner lies from that of the full search, and its share of the trial-epochs; then of all.
Then the same in one line for each of the rules that were tried beside the one that is used.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from job.report.reading import trial_from
from job.results import STOPPED, Trial, winner
from job.search.rungs import RULE, Rule, stops

NEAR = 0.01
OTHERS = {
    "1, 3, 9, 27: a third, by the loss (Jamieson and Talwalkar)": Rule(1, 3, 3, 1, 0.0),
    "the same, three at least": Rule(1, 3, 3, 3, 0.0),
    "1, 2, 4, 8, …: half, by the loss": Rule(1, 2, 2, 1, 0.0),
    "1, 2, 4, 8, …: half, by the outlook": Rule(1, 2, 2, 1, 2.0),
    "2, 4, 8, …: a third, by the loss": Rule(2, 2, 3, 1, 0.0),
    "2, 6, 18: a third, by the loss": Rule(2, 3, 3, 1, 0.0),
    "2, 6, 18: a third, by the outlook": Rule(2, 3, 3, 1, 2.0),
    "3, 9, 27: a third, by the loss": Rule(3, 3, 3, 1, 0.0),
    "2, 4, 8, …: a third, by an outlook half as far": Rule(2, 2, 3, 1, 1.0),
    "2, 4, 8, …: a third, by an outlook half as far again": Rule(2, 2, 3, 1, 3.0),
    "2, 4, 8, …: a third, two at least, by the outlook": Rule(2, 2, 3, 2, 2.0),
    "2, 4, 8, …: a quarter, by the outlook": Rule(2, 2, 4, 1, 2.0),
    "2, 4, 8, …: half, by the outlook": Rule(2, 2, 2, 1, 2.0),
    "**2, 4, 8, …: a third, by the outlook**": RULE,
}


@dataclass(frozen=True)
class Replay:
    """`kept`: the same trial wins. `further` is how much higher the loss of halving's winner is, as a share."""

    name: str
    trials: int
    kept: bool
    loss: float
    further: float
    epochs: int
    halved: int

    @property
    def share(self) -> float:
        return self.halved / self.epochs


@dataclass(frozen=True)
class Search:
    """`start` is how many of its trials had their rates beforehand, `most` how many epochs a trial may take."""

    name: str
    trials: list[Trial]
    most: int
    start: int


def replayed(search: Search, rule: Rule = RULE) -> Replay:
    """One search as `rule` would have run it."""
    name, trials = search.name, search.trials
    at = stops(trials[: search.start], search.most, rule)
    cut = [
        replace(t, epochs=t.epochs[: at[t.number]], failure="", ending=STOPPED) if t.number in at else t for t in trials
    ]
    whole, half = winner(trials), winner(cut)
    assert whole is not None
    assert half is not None
    epochs, halved = (sum(len(trial.epochs) for trial in of) for of in (trials, cut))
    further = half.validation_loss / whole.validation_loss - 1
    return Replay(name, len(trials), whole.number == half.number, whole.validation_loss, further, epochs, halved)


def read(folder: Path) -> Search:
    results = json.loads((folder / "results.json").read_text())
    values = {name: entry["value"] for name, entry in results["settings"].items()}
    if values.get("SEARCH", "full") != "full":
        sys.exit(f"{folder}: its search was halved already")
    trials = [trial_from(entry, False) for entry in results["tuning"]["trials"]]
    name = f"{values['MODEL']} seed {values['SEED']}"
    return Search(name, trials, values["TUNE_MAX_EPOCHS"], values["TUNE_STARTUP_TRIALS"])


def of_all(replays: list[Replay]) -> tuple[int, int, float, float]:
    """How often the winner was kept, how often its loss was near, how much further it was on average, and the share."""
    share = sum(each.halved for each in replays) / sum(each.epochs for each in replays)
    mean = sum(each.further for each in replays) / len(replays)
    return sum(each.kept for each in replays), sum(each.further <= NEAR for each in replays), mean, share


def main(folders: list[str]) -> None:
    searches = [read(Path(folder)) for folder in folders]
    print("| search | trials | the same winner | its loss | loss of halving's winner | trial-epochs | halved | share |")
    print("|---|---|---|---|---|---|---|---|")
    for each in map(replayed, searches):
        print(
            f"| {each.name} | {each.trials} | {'yes' if each.kept else 'no'} | {each.loss:.4f} "
            f"| {100 * each.further:+.2f} % | {each.epochs} | {each.halved} | {100 * each.share:.0f} % |"
        )
    count = len(searches)
    print(f"\n| rule | same winner of {count} | within 1 % | further on average | share of the trial-epochs |")
    print("|---|---|---|---|---|")
    for name, rule in OTHERS.items():
        kept, near, mean, share = of_all([replayed(search, rule) for search in searches])
        print(f"| {name} | {kept} | {near} | {100 * mean:+.2f} % | {100 * share:.0f} % |")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
