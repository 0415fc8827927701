"""Finished runs side by side: `summary.html`, `summary.txt` and `summary.csv`."""

from __future__ import annotations

from collections.abc import Sequence

from job.report import page_summary
from job.report.comparison import Run, grouped, labels, several, title
from job.report.differences import MCNEMAR, Pair, pairs
from job.report.tables import as_csv
from job.report.text import RULE
from job.report.words import dollars, duration, plural


def files(runs: Sequence[Run], left_out: Sequence[str], price_per_hour: float | None) -> dict[str, bytes]:
    """File name → content. `left_out` says of each run that is not among them why; the price is in USD."""
    groups = grouped(runs)
    return {
        "summary.html": page_summary.html(groups, left_out, price_per_hour).encode(),
        "summary.txt": text(groups, left_out, price_per_hour).encode(),
        "summary.csv": csv(groups, price_per_hour).encode(),
    }


def csv(groups: Sequence[Sequence[Run]], price_per_hour: float | None) -> str:
    """`summary.csv`: one line a run, the runs of one data set together; a column more where MAX_HOURS limited one."""
    limited = any(run.max_hours is not None for group in groups for run in group)
    return as_csv(
        [
            {
                "run": run.name,
                "model": run.model,
                "recipe": run.recipe,
                "dataset": run.dataset,
                "data_sha256": run.data_sha256,
                "test_images": run.images,
                "accuracy_percent": 100 * run.accuracy,
                "accuracy_low_percent": 100 * run.interval[0],
                "accuracy_high_percent": 100 * run.interval[1],
                "test_loss": run.loss,
                "parameters": run.parameters,
                "learning_rate": run.learning_rate,
                "epochs": run.epochs,
                "tuning_seconds": run.tuning_seconds,
                "training_seconds": run.training_seconds,
                "cost_usd": run.cost(price_per_hour),
                "hardware": run.hardware,
                "precision": run.precision,
                **({"max_hours": run.max_hours} if limited else {}),
            }
            for group in groups
            for run in group
        ]
    )


def text(groups: Sequence[Sequence[Run]], left_out: Sequence[str], price_per_hour: float | None) -> str:
    """`summary.txt`: a table for each data set, then which runs may be equally good."""
    lines = [RULE, "Summary".center(50).rstrip(), RULE]
    if len(groups) > 1:
        lines += several(groups), RULE
    for group in groups:
        lines += [f"[{title(group)}]", f"  data {group[0].data_sha256[:16]}", ""]
        lines += table(group, price_per_hour)
        if len(group) > 1:
            lines += ["", *differences(group)]
        lines.append(RULE)
    if left_out:
        lines += ["[Left out]", *(f"  - {reason}" for reason in left_out), RULE]
    return "\n".join(lines) + "\n"


def table(group: Sequence[Run], price_per_hour: float | None) -> list[str]:
    names = labels(group)
    width = max(len(name) for name in (*names, "run"))
    head = f"  {'run':{width}}  accuracy  95 % interval    loss    parameters  tuning    training"
    lines = [head + ("      cost" if price_per_hour else "")]
    for name, run in zip(names, group, strict=True):
        low, high = (100 * end for end in run.interval)
        line = (
            f"  {name:{width}}  {100 * run.accuracy:6.2f} %  {low:5.2f} to {high:5.2f} %  {run.loss:6.4f}  "
            f"{run.parameters:>10,}  {duration(run.tuning_seconds):>8}  {duration(run.training_seconds):>8}"
        )
        cost = run.cost(price_per_hour)
        lines.append(line + (f"  {dollars(cost):>11}" if cost else ""))
    return lines


def differences(group: Sequence[Run]) -> list[str]:
    """A line for each pair that chance may explain, and how that was judged."""
    names, found = labels(group), pairs(group)
    unsure = [pair for pair in found if not pair.differ]
    lines = [
        f"  {names[pair.one]} and {names[pair.other]}: {abs(pair.points):.2f} points apart, may be chance "
        f"(p = {pair.p:.2g}{f', corrected {pair.corrected:.2g}' * (len(found) > 1)})"
        for pair in unsure
    ]
    if len(unsure) < len(found):
        lines.append("  all other pairs differ" if unsure else f"  {'all pairs' if len(found) > 1 else 'they'} differ")
    return [*lines, f"  judged at the 95 % level by {judged_by(found)}"]


def judged_by(found: Sequence[Pair]) -> str:
    images = sum(pair.test == MCNEMAR for pair in found)
    z_test = "the z-test of two proportions (runs that kept no answers)"
    exact = "McNemar's exact test on the images both answered"
    test = exact if images == len(found) else z_test if not images else f"{exact}, else {z_test}"
    return test + (f"; corrected for {plural(len(found), 'pair')} (Holm)" if len(found) > 1 else "")
