"""`results.json`, `model.json` and the manifest against what follows from the answers, the epochs and the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from job import models
from job.modes import recipes
from job.modes.verify_rows import EXACT, Facts, Row, judged
from job.report.reading import NEAR, differing, recipe_from, report_from, trial_from
from job.report.records import OfRecipe, RunReport
from job.report.tables import as_json
from job.results import STOPPED, Score, Trial
from job.search import rungs, tune
from job.settings import Settings, variables
from job.settings.effects import without_effect

RATES, RUNGS = "learning rates tried", "rungs of the search"


def rows(facts: Facts) -> Iterator[Row]:
    yield from results(facts)
    yield from others(facts)
    yield suggested(facts)
    if facts.results["settings"].get("SEARCH", {}).get("value") == "halving":
        yield stopped(facts)


def others(facts: Facts) -> Iterator[Row]:
    """The other two JSON files."""
    yield judged("model.json", list(differing(facts.about, model_facts(facts))), "all that results and data set tell")
    yield judged(
        "manifest.json",
        list(differing(said_of_run(facts), manifest_facts(facts))),
        "run, settings, data set, pretrained weights",
    )


def rebuilt(facts: Facts) -> RunReport:
    """The report as it must be: from the kept answers, or the weights' where none were kept."""
    results, images = facts.results | {"data": data_facts(facts)}, facts.data.test.images.numpy()
    report = report_from(results, facts.kept or facts.answers, facts.structure, facts.parameters, images)
    return replace(
        report,
        doubts=tuple(facts.data.doubts()),
        examples=facts.data.examples(),
        way=way(facts, report),
        seen=facts.seen,
    )


def way(facts: Facts, report: RunReport) -> OfRecipe:
    """What the report shows of the recipe, from settings and images; the score with flip as it was told."""
    told = facts.results.get("test_time_flip")
    values = {name.lower(): facts.results["settings"][name]["value"] for name in ("SEED", "BATCH_SIZE")}
    flipped = Score(told["loss"], told["accuracy_percent"]) if told else None
    settings = facts.settings.model_copy(update=values)
    return recipes.told(settings, facts.data, report.choice, report.recipe, flipped)


def results(facts: Facts) -> Iterator[Row]:
    """Everything in it that can be worked out: evaluation, winner, recipe, sums, model, data set."""
    now = as_json(rebuilt(facts))
    told = "winner, recipe, sums, model, data set"
    if facts.kept is None and facts.wanted != EXACT:
        now.pop("evaluation")
        yield Row("evaluation", "not compared", "the run kept no answers, and was computed elsewhere")
    else:
        told = f"every figure of the evaluation, {told}"
    found = list(differing(facts.results, now))
    if not facts.same_code:  # an older version wrote fewer keys
        lacking = [line for line in found if line.endswith(" is missing")]
        found = [line for line in found if line not in lacking]
        if lacking:
            keys = sorted({re.sub(r"\[\d+\]| is missing$", "", line) for line in lacking})
            yield Row("newer keys", "not compared", f"another version of the job wrote no {', '.join(keys)}")
    yield judged("results.json", found, told)


def data_facts(facts: Facts) -> dict[str, Any]:
    """What the results must say of it; where its files lay then may be elsewhere now."""
    now = {name: value for name, value in facts.data.describe().items() if name != "fetched"}
    was = facts.results["data"]
    return now | {name: was[name] for name in ("origin", "fetched") if name in was}


def model_facts(facts: Facts) -> dict[str, Any]:
    """What model.json must say (mean and std were used, and so checked, with the weights)."""
    return {
        "model": facts.results["model"]["name"],
        "num_classes": len(facts.data.classes),
        "classes": list(facts.data.classes),
        **({"recipe": "strong"} if facts.results["recipe"].get("name") == "strong" else {}),
        "image_size": facts.data.test.images.shape[1],
        "precision": facts.results["provenance"]["precision"],
        "torch": facts.results["provenance"]["versions"]["torch"],
        "test": facts.results["test"],
        "dataset": facts.data.name,
        "data_sha256": facts.data.sha256,
    }


def said_of_run(facts: Facts) -> dict[str, Any]:
    """What the results say of what the manifest holds; a setting that did nothing stands there with its default."""
    values = {name: entry["value"] for name, entry in facts.results["settings"].items()}
    if values["MODEL"] not in models.names():
        raise ValueError(f"no model is called {values['MODEL']}")
    then = facts.settings.model_copy(update={name.lower(): value for name, value in values.items()})
    idle = {name: variables()[name.lower()].default for name in without_effect(then)}
    return {
        "run": facts.results["run"],
        "settings": values | idle,
        "data_sha256": facts.results["data"]["sha256"],
        "pretrained": facts.results["provenance"].get("pretrained"),
    }


def manifest_facts(facts: Facts) -> dict[str, Any]:
    told = {name: facts.manifest[name] for name in ("run", "settings", "data_sha256")}
    return told | {"pretrained": facts.manifest.get("pretrained")}


def suggested(facts: Facts) -> Row:
    """The search's learning rates once more: from the seed, and from the trials before them."""
    complete = recipe_from(facts.results).scheduled
    trials = [trial_from(entry, complete) for entry in facts.results["tuning"]["trials"]]
    if not trials:
        return Row(RATES, "not compared", "LEARNING_RATE and EPOCHS were given")
    was = facts.results["provenance"]["versions"].get("hyperopt")
    if was != version("hyperopt"):
        return Row(RATES, "not compared", f"they were drawn by hyperopt {was}")
    named = ("seed", "max_evals", "max_hours", "tune_startup_trials", "lr_min", "lr_max")
    values = {name: facts.results["settings"].get(name.upper(), {}).get("value") for name in named}
    workers = facts.results["provenance"].get("workers", {}).get("round", 1)
    return rates(trials, facts.settings.model_copy(update=values), workers, facts.wanted == EXACT)


def stopped(facts: Facts) -> Row:
    """Who was stopped at which rung, once more from the losses."""
    settings = {name: entry["value"] for name, entry in facts.results["settings"].items()}
    trials = [trial_from(entry, False) for entry in facts.results["tuning"]["trials"]]
    if not trials:
        return Row(RUNGS, "not compared", "LEARNING_RATE and EPOCHS were given")
    first = trials[: settings["TUNE_STARTUP_TRIALS"]]
    now = rungs.stops(first, settings["TUNE_MAX_EPOCHS"])
    said = {trial.number: len(trial.epochs) for trial in trials if trial.ending == STOPPED}
    wrong = [
        f"trial {number + 1} was stopped at {said.get(number, 'none')} and must be at {now.get(number, 'none')}"
        for number in sorted(said.keys() | now.keys())
        if said.get(number) != now.get(number)
    ]
    return judged(RUNGS, wrong, f"{len(said)} of {len(first)} trials stopped, by the losses of the others")


def rates(trials: Sequence[Trial], settings: Settings, workers: int, exact: bool) -> Row:
    if len(trials) > settings.max_evals or (len(trials) < settings.max_evals and settings.max_hours is None):
        return Row(RATES, "differs", f"{len(trials)} trials where MAX_EVALS is {settings.max_evals}")
    wrong, adaptive, tried = [], 0, {trial.number: trial for trial in trials}
    for round_ in tune.rounds(settings, workers):
        for number in [number for number in round_ if number in tried]:
            random = number < settings.tune_startup_trials
            if not random and not exact:  # TPE chooses among candidates: a last bit may choose another
                continue
            adaptive += not random
            rate = tune.suggest(settings, number, trials[: round_.start])
            if not math.isclose(rate, tried[number].learning_rate, rel_tol=NEAR):
                wrong.append(f"trial {number + 1} is {tried[number].learning_rate:.6g} and must be {rate:.6g}")
    random_ones = sum(number < settings.tune_startup_trials for number in tried)
    told = f"{random_ones} from the seed" + (f", {adaptive} from the trials before" if adaptive else "")
    left = len(trials) - random_ones - adaptive
    return judged(RATES, wrong, told + (f"; {left} more were suggested on another machine" if left else ""))
