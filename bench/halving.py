"""What `SEARCH=halving` would have made of searches that were run whole.

python -m bench.halving RUN_FOLDER...

Each folder holds the `results.json` of a finished run with `SEARCH=full`. Its start-up trials are stopped where halving
would have stopped them: their losses up to there are the same. Tells for each search whether halving keeps the winner,
how far the loss of its own winner lies from that of the full search, and its share of the trial-epochs; then of all.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from job.report.reading import trial_from
from job.results import STOPPED, Trial, winner
from job.search import halving


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


def replayed(name: str, trials: list[Trial], most: int, start: int) -> Replay:
    """One search; `start` is how many of its trials had their rates beforehand."""
    stops = halving.stops(trials[:start], most)
    cut = [
        replace(t, epochs=t.epochs[: stops[t.number]], failure="", ending=STOPPED) if t.number in stops else t
        for t in trials
    ]
    whole, half = winner(trials), winner(cut)
    assert whole is not None
    assert half is not None
    epochs, halved = (sum(len(trial.epochs) for trial in of) for of in (trials, cut))
    further = half.validation_loss / whole.validation_loss - 1
    return Replay(name, len(trials), whole.number == half.number, whole.validation_loss, further, epochs, halved)


def read(folder: Path) -> Replay:
    results = json.loads((folder / "results.json").read_text())
    values = {name: entry["value"] for name, entry in results["settings"].items()}
    if values.get("SEARCH", "full") != "full":
        sys.exit(f"{folder}: its search was halved already")
    trials = [trial_from(entry, False) for entry in results["tuning"]["trials"]]
    name = f"{values['MODEL']} seed {values['SEED']}"
    return replayed(name, trials, values["TUNE_MAX_EPOCHS"], values["TUNE_STARTUP_TRIALS"])


def main(folders: list[str]) -> None:
    replays = [read(Path(folder)) for folder in folders]
    print("| search | trials | the same winner | its loss | loss of halving's winner | trial-epochs | halved | share |")
    print("|---|---|---|---|---|---|---|---|")
    for each in replays:
        print(
            f"| {each.name} | {each.trials} | {'yes' if each.kept else 'no'} | {each.loss:.4f} "
            f"| {100 * each.further:+.2f} % | {each.epochs} | {each.halved} | {100 * each.share:.0f} % |"
        )
    near = sum(each.further <= 0.01 for each in replays)
    share = sum(each.halved for each in replays) / sum(each.epochs for each in replays)
    kept = sum(each.kept for each in replays)
    print(
        f"\nThe winner was kept in {kept} of {len(replays)} searches, the loss of halving's winner lay within 1 % in "
        f"{near}; {100 * share:.0f} % of the trial-epochs."
    )


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
