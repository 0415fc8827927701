"""The replay of whole searches under halving, on curves whose outcome is known."""

from __future__ import annotations

from bench.halving import Search, replayed
from job.search.rungs import Rule
from tests.search.test_halving import trial


def test_a_late_bloomer_is_lost_and_what_it_costs_is_told() -> None:
    """Nine trials of ten epochs: 9 to the second, 3 to the fourth, 1 to the end: 18 + 6 + 6 of 90 epochs."""
    steady = [trial(n, *(1.0 + 0.1 * n for _ in range(10))) for n in range(8)]
    late = trial(8, 9.0, 9.0, *(0.8 for _ in range(8)))
    found = replayed(Search("late", [*steady, late], 10, 20))
    assert (found.kept, found.loss, found.epochs, found.halved) == (False, 0.8, 90, 9 * 2 + 3 * 2 + 6)
    assert abs(found.further - 0.25) < 1e-12
    assert replayed(Search("kept", steady, 10, 20)).kept
    whole = replayed(Search("late", [*steady, late], 10, 20), Rule(first=3))
    assert whole.kept, "another rule finds it"


def test_trials_of_tpe_run_whole() -> None:
    trials = [trial(n, *(1.0 + 0.1 * n for _ in range(10))) for n in range(4)]
    assert replayed(Search("tpe", trials, 10, 2)).halved == 10 + 2 + 2 * 10
