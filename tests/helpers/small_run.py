"""A run in small, without torch: the real lock, status, state, publishing and clean-up around contents of a few bytes.

python -m tests.helpers.small_run OUTPUT NAME [FREEZE_AT]

It tells on its standard output what it does. The step with the number FREEZE_AT, counted from 1 over all that it puts
and deletes (heartbeats aside), begins with SIGSTOP: whoever started it decides when it goes on. `-1` freezes it in a
heartbeat, `-2` has it train for ever. Signals and exit codes are the job's own.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from job.errors import Fault, Interrupted
from job.interrupt import Stop, stop_on_signals
from job.runs import lock, publish, taking
from job.runs.owner import Timing
from job.runs.status import FINISHED, Status
from job.storage import ArtifactStore
from job.storage.local import LocalStore

TIMING = Timing(beat=0.4, patience=2.0)
STATE = "checkpoint/0"
FILES = ("results.json", "weights.pt", "report.html")
ABOUT = {
    "run": "run",
    "settings": {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": None, "SEED": 1},
    "data_sha256": "0" * 64,
}


def content(name: str, owner: str) -> bytes:
    return f"{name} by {owner}\n".encode()


def place(output: str) -> ArtifactStore:
    if not output.startswith("s3://"):
        return LocalStore(Path(output) / "run")
    from job.storage import s3  # boto3 takes its time

    return s3.open_store(output, "run", s3.Limits(connect=5, read=5, pause=0.1, patience=60, settle=0.3))


def freeze(kind: type, step: int) -> None:
    """Has the step with this number begin with SIGSTOP."""
    done = 0

    def frozen(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(store: ArtifactStore, name: str, *arguments: Any) -> Any:
            nonlocal done
            beats = name == taking.NAME and method.__name__ == "put_known"
            done += not beats
            if (done == step and not beats) or (step == -1 and beats):
                print(f"frozen in {method.__name__} {name}", flush=True)
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)  # before this very thread goes on
            return method(store, name, *arguments)

        return call

    for method in ("put", "put_known", "delete"):
        setattr(kind, method, frozen(getattr(kind, method)))


def main(output: str, owner: str, step: int, stop: Stop) -> int:
    store = place(output)
    if step > 0 or step == -1:
        freeze(type(store), step)
    try:
        with lock.held(store, stop, TIMING) as held:
            print("held", flush=True)
            publish.remove(held.store)  # FRESH=1
            with Status(held.brief, stop) as status:
                status.tell("train", by=owner)
                held.brief.put(STATE, content(STATE, owner))
                print("training", flush=True)
                if step < 0:
                    stop.wait(1000)
                files = {name: content(name, owner) for name in FILES}
                publish.publish(held.store, files, ABOUT, held.check)
                held.store.delete(STATE)
                status.tell(FINISHED, by=owner)
    except Interrupted as interrupted:
        return interrupted.exit_code
    except Fault as fault:
        print(fault, flush=True)
        return stop.exit_code(fault.exit_code)
    print("finished", flush=True)
    return 0


def race(start: Barrier, output: str, owner: str, variables: dict[str, str]) -> None:
    """`main` in a process of its own, at the same instant as others that wait at `start`."""
    os.environ.update(variables)
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (until the process ends)
    if output.startswith("s3://"):
        place(output)  # boto3 is loaded before
    start.wait()
    os._exit(main(output, owner, 0, Stop()))


if __name__ == "__main__":
    with stop_on_signals() as asked:
        code = main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0, asked)
    os._exit(code)  # as the job does where threads still hang in a store
