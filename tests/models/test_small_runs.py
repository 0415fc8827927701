"""Each model once through the whole job, in small: search, training, report. `make test-oldest` has them, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from job import models
from tests.conftest import Job
from tests.helpers import weight_files


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("model", models.names())
def test_a_small_run(tiny: Job, tmp_path: Path, model: str) -> None:
    given = {"MODEL": model, "DATA_LIMIT": "100", "TUNE_MAX_EPOCHS": "1", "PRECISION": "auto"}
    if hasattr(models.find(model), "expected"):  # weights to start from
        (tmp_path / "weights.pth").write_bytes(
            weight_files.saved(weight_files.published(weight_files.network().state_dict()))
        )
        given["PRETRAINED_WEIGHTS"] = "weights.pth"
    done = tiny(**given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert len(list(tmp_path.glob("outputs/*/manifest.json"))) == 1
