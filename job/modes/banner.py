"""What a person reads at a run's beginning and at its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from job import models, report
from job.console.logs import event
from job.device import Compute
from job.runs.checkpoint import FINAL, Standing
from job.settings import Settings
from job.storage import ArtifactStore


def line(label: str, text: str) -> str:
    return f"{label:<11}{text}"


def begins(
    settings: Settings,
    store: ArtifactStore,
    compute: Compute,
    data: Mapping[str, Any],
    attempt: int,
    standing: Standing,
) -> None:
    """Who runs, on what, where to, and what of it an earlier attempt has done already."""
    parameters = models.find(settings.model).PARAMETERS
    lines = [
        line("run", settings.run_name),
        line("model", f"{settings.model}, {parameters:,} parameters (with ten classes)"),
        line(
            "data",
            f"{data['name']} ({data['origin']}): {data['train_images']:,} training and {data['test_images']:,} test "
            f"images, {len(data['classes'])} classes",
        ),
    ]
    event("run", "\n".join(lines), run=settings.run_name, model=settings.model, data=data)
    event(
        "device",
        "\n".join(
            [
                line("device", f"{compute.device}: {compute.hardware}"),
                line("precision", f"{compute.precision}: {compute.reason}"),
                line("output", store.uri),
            ]
        ),
        device=str(compute.device),
        hardware=compute.hardware,
        precision=compute.precision,
        reason=compute.reason,
        output=store.uri,
    )
    if standing != Standing():
        event(
            "resume",
            line("resumed", f"attempt {attempt}: {went_so_far(standing)}"),
            attempt=attempt,
            trials_finished=len(standing.trials),
            epochs_of_part=standing.epochs_of_part,
        )


def went_so_far(standing: Standing) -> str:
    numbers = {trial.number for trial in standing.trials}
    begun = standing.part if isinstance(standing.part, int) else next(n for n in count() if n not in numbers)
    part = "the final training" if standing.part == FINAL else f"trial {begun + 1}"
    if standing.begun:
        part = f"{len(standing.begun)} trials at once"
    return f"going on after {len(standing.trials)} finished trials, {standing.epochs_of_part} epochs into {part}"


def ends(finished: report.RunReport, uri: str, names: Iterable[str]) -> None:
    """The results, and where each file is."""
    event("results", report.text(finished).rstrip(), **report.as_json(finished)["test"])
    event("finished", "\n".join([f"finished: the files are in {uri}", *report.listing(names)]), uri=uri)


def append(path: Path | None, text: str) -> None:
    """Adds `text` to the file that continuous integration shows; one that cannot be written costs a warning alone."""
    if path is None:
        return
    try:
        with path.open("a") as file:
            file.write(text)
    except OSError as error:
        event("step_summary", f"GITHUB_STEP_SUMMARY: {path} cannot be written ({error.strerror})", level="WARNING")
