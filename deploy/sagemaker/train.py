"""Runs the job as a SageMaker training job and hands over what SageMaker wants afterwards.

SageMaker reads why a job failed from a file, and takes the model and the other results from two folders. All of that
comes after the job's end, so this is the one platform on which something has to outlive the job.

    python train.py FAILURE_FILE [ARGUMENT...]
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

REASON_CHARACTERS = 1024  # as much as SageMaker shows
WEIGHTS = "weights.pt"
FINISHED = (0, 65)  # published; 65: below MIN_ACCURACY


def main(failure: Path, arguments: list[str]) -> int:
    job = subprocess.Popen([sys.executable, "-m", "job", *arguments], stdout=subprocess.PIPE, text=True)
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, lambda received, frame: job.send_signal(received))
    last: deque[str] = deque(maxlen=20)
    assert job.stdout is not None
    for line in job.stdout:
        print(line, end="", flush=True)
        last.append(line)
    code = job.wait()
    if code in FINISHED:
        hand_over(Path(os.environ["OUTPUT"]), Path(os.environ["SM_MODEL_DIR"]), Path(os.environ["SM_OUTPUT_DATA_DIR"]))
    if code == 0:
        return 0
    code = code if code > 0 else 128 - code
    failure.write_text(f"exit code {code}\n{reason(list(last))}"[:REASON_CHARACTERS])
    return code


def reason(lines: list[str]) -> str:
    """The job's last words: from its last error on, else its last lines."""
    starts = [
        number for number, line in enumerate(lines) if line.startswith(("error:", "Traceback")) or is_json_error(line)
    ]
    return "".join(lines[starts[-1] if starts else -5 :])


def is_json_error(line: str) -> bool:
    return line.startswith("{") and '"level": "error"' in line


def hand_over(output: Path, model: Path, results: Path) -> None:
    """Copies the weights to `model` and the rest of the finished run to `results`, where it does not lie there yet."""
    from job import settings

    run = settings.load().run_name
    source = output / run
    if not (source / "manifest.json").is_file():
        return  # OUTPUT is a bucket: the files are where the user wants them
    names = [*json.loads((source / "manifest.json").read_text())["files"], "manifest.json"]
    for name in names:
        target = (model if name == WEIGHTS else results / run) / name
        if not (target.exists() and target.samefile(source / name)):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, target)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
