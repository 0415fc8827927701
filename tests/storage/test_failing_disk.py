"""Disk full and I/O errors at every write site of a whole job, one after the other, in one process."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from job.console.progress import Progress
from job.errors import TemporaryFault
from job.interrupt import Stop
from job.modes import run as pipeline
from job.settings import Settings
from tests.helpers import chaos

SITES = ((tempfile, "mkstemp"), (os, "fsync"), (os, "replace"), (os, "link"), (Path, "replace"))


class Disk:
    """Counts the calls that make a file durable; the one with the number `fails_at` fails."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.fails_at, self.calls, self.error = 0, 0, errno.ENOSPC
        for owner, name in SITES:
            patch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls == self.fails_at:
                raise OSError(self.error, os.strerror(self.error))
            return real(*arguments, **options)

        return call

    def fail(self, number: int, error: int) -> None:
        self.fails_at, self.calls, self.error = number, 0, error


def run(place: Path) -> None:
    settings = Settings(
        model="mlp", dataset="synthetic", data_limit=100, learning_rate=1e-3, epochs=2, device="cpu",
        precision="fp32", output=str(place), run_id="run",
    )  # fmt: skip
    pipeline.run(settings, Progress("off"), Stop())


def fault_of(place: Path) -> str:
    """What the job says of the fault that ended it; empty where it went on to its end."""
    try:
        run(place)
    except TemporaryFault as fault:
        return fault.what
    return ""


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_fault_at_every_write_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job says which path, keeps what it had, leaves nothing half-written, and goes on to the very same bytes."""
    monkeypatch.setattr("job.report.rendering.png", lambda figure: b"a picture")  # drawing takes most of a job's time
    monkeypatch.setattr("job.report.templating.svg", lambda figure, name: "<svg></svg>")
    run(tmp_path / "twin")
    twin = chaos.comparable(chaos.directory_files(tmp_path / "twin" / "run"))
    disk, told = Disk(monkeypatch), 0
    for number in itertools.count(1):
        place, error = tmp_path / "out", (errno.ENOSPC, errno.EIO)[number % 2]
        shutil.rmtree(place, ignore_errors=True)
        disk.fail(number, error)
        said = fault_of(place)
        if said:
            told += 1
            assert os.strerror(error) in said
            assert str(place) in said
        if disk.calls < number:
            break
        disk.fail(0, 0)
        run(place)
        files = chaos.directory_files(place / "run")
        assert chaos.comparable(files) == twin, f"after a fault at call {number}"
        assert not [name for name in files if name.endswith(".part")]
    print(f"{told} faults told over {number - 1} write sites")
    assert told > 30  # every file and both states are made durable in four steps
