"""Builds the image and runs it for real: `make test-container`.

Without a base image (CONTAINER_BASE) it makes one of CONTAINER_DEBIAN with debootstrap; podman, runc and debootstrap
are installed where they are missing and this is root. Where containers cannot run, it says SKIPPED and counts nothing
as passed.
Afterwards every image and layer that it made is removed; KEEP_IMAGE=1 keeps them, and so the next build's cache.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.container import documented, image, odd, platforms, runs
from tests.container.ground import give_back, images, prepare
from tests.container.place import Place
from tests.container.shell import BUILD, CHECK, GROUND, Checks, Skipped, within


def main() -> int:
    check = Checks()
    signal.signal(signal.SIGTERM, lambda signum, frame: sys.exit(143))  # by way of `finally`
    work = Path(tempfile.mkdtemp(prefix="job-check-"))
    before = images() if shutil.which("podman") else set()
    try:
        try:
            with within(GROUND):
                base = prepare(work)
        except (AssertionError, TimeoutError) as error:
            raise Skipped(error) from error
        commit = image.commit_here()
        check("make build", lambda: image.build(base), BUILD)
        if not check.failed:
            whole, stopped = Place(work, "whole"), Place(work, "stopped")
            check("size by layer", image.sizes)
            check("user, entrypoint, labels, variables", lambda: image.inspect(commit))
            check("nothing left over from the build", image.nothing_left_over)
            check("no library misses one that was removed", image.libraries_complete)
            check("--help", lambda: image.in_image("/app/entrypoint.sh --help >/dev/null"))
            check("a run: any user, read-only, no network, no capabilities", lambda: runs.whole_run(whole))
            check("the same again finds it finished", lambda: runs.finished_already(whole))
            check("MODE=export", lambda: runs.exported(whole))
            check("TensorBoard and MLflow, in folders", lambda: runs.followed(Place(work, "followed")))
            check("podman stop in the search", lambda: runs.stop_when(stopped, r"tune trial=1/4 .*best_epoch"))
            check("podman stop in the training", lambda: runs.stop_when(stopped, r"train epoch=1 "))
            check("the stopped run ends like the uninterrupted one", lambda: runs.stopped_run_goes_on(stopped, whole))
            check("a wrong setting exits 78, in JSON", lambda: runs.wrong_setting(Place(work, "wrong")))
            check("an indexed job with one CPU", lambda: platforms.indexed_job(Place(work, "indexed")))
            check("SageMaker's folders and failure reason", lambda: platforms.sagemaker(Place(work, "sagemaker"), work))
            check("the Kaggle script in Kaggle's tree", lambda: platforms.kaggle(work))
            for place, line in documented.lines():
                check(f"{place}, as an ordinary user", partial(documented.as_written, line, work))
            check("a folder that root made is told with its remedy", lambda: documented.folder_of_root(work))
            check("an odd user: no HOME, umask 077, little shared memory", lambda: odd.user(Place(work, "odd")))
            check("a read-only root without a temporary folder", lambda: odd.nowhere_temporary(Place(work, "no-tmp")))
            check("a memory limit below the images", lambda: odd.little_memory(Place(work, "memory")))
            check("make docker-run", lambda: platforms.make_docker_run(work))
            check("make run-all RUNNER=docker", lambda: platforms.make_run_all(work))
    except Skipped as reason:
        print(f"SKIPPED  the container tests did NOT run: {reason}")
        print(f"test-container: {check.passed} passed, {check.failed} failed, 1 skipped")
        return 1 if check.failed else 0
    finally:
        if os.environ.get("KEEP_IMAGE") != "1" and shutil.which("podman"):
            with within(CHECK):
                give_back(before)
        shutil.rmtree(work, ignore_errors=True)
    print(f"test-container: {check.passed} passed, {check.failed} failed, 0 skipped")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
