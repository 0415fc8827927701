"""Containers as some platforms start them: odd users, hardly anything to write to, little shared memory."""

from __future__ import annotations

from tests.container.place import FILES, TINY, Place, outputs_are_whole

ODD = ("--env=HOME=", "--umask", "077", "--shm-size", "64m")


def user(place: Place) -> str:
    """No HOME, files for nobody else, 64 MB of shared memory for two workers; the user has no passwd entry anyway."""
    searched = {**TINY, "LEARNING_RATE": "", "EPOCHS": "", "MAX_EVALS": "2", "TUNE_MAX_EPOCHS": "1", "WORKERS": "2"}
    place.run({**searched, "MODEL": "mlp"}, *ODD)
    run = place.finished_run()
    assert {file.stat().st_mode & 0o077 for file in run.iterdir()} == {0}
    return outputs_are_whole(run, FILES)
