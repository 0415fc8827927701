"""Containers as some platforms start them: odd users, hardly anything to write to, little memory of either kind."""

from __future__ import annotations

from tests.container.place import FILES, TINY, Place, outputs_are_whole
from tests.container.shell import IMAGE, sh

ODD = ("--env=HOME=", "--umask", "077", "--shm-size", "64m")
MEMORY = "900m"
MORE_THAN_THAT = {"IMAGE_SIZE": "64", "DATA_LIMIT": ""}  # 740 MB of images beside all else


def user(place: Place) -> str:
    """No HOME, files for nobody else, 64 MB of shared memory for two workers; the user has no passwd entry anyway."""
    searched = {**TINY, "LEARNING_RATE": "", "EPOCHS": "", "MAX_EVALS": "2", "TUNE_MAX_EPOCHS": "1", "WORKERS": "2"}
    place.run({**searched, "MODEL": "mlp"}, *ODD)
    run = place.finished_run()
    assert {file.stat().st_mode & 0o077 for file in run.iterdir()} == {0}
    return outputs_are_whole(run, FILES)


def nowhere_temporary(place: Place) -> str:
    """A read-only root, and no /tmp or /var/tmp in memory either: the mounted folders alone can be written."""
    bare = ("--user", "12345", "--read-only", "--read-only-tmpfs=false", "--network", "none")
    options = place.options({**TINY, "MODEL": "mlp"})
    touched = sh("podman", "run", "--rm", *bare, *options, "--entrypoint", "touch", IMAGE, "/tmp/a", check=False)
    assert touched.returncode != 0, "/tmp can be written"
    done = sh("podman", "run", "--rm", *bare, *options, IMAGE, check=False)
    assert done.returncode == 0, f"exit {done.returncode}:\n{done.stdout[-3000:]}{done.stderr[-2000:]}"
    said = outputs_are_whole(place.finished_run(), FILES - {"tuning.png"})
    left = [file.name for folder in (place.outputs, place.data) for file in folder.glob(".job-tmp-*")]
    assert not left, left
    return said


def little_memory(place: Place) -> str:
    """A limit below what the images take beside all else: they stay on the disk, and the log says so."""
    limited = ("--memory", MEMORY, "--memory-swap", MEMORY)
    log = place.run({**TINY, "MODEL": "mlp", **MORE_THAN_THAT}, *limited)
    outputs_are_whole(place.finished_run(), FILES - {"tuning.png"})
    return next(line for line in log.splitlines() if "on the disk, read batch by batch" in line)
