"""The entry point: settings → logging → signals → mode → exit code."""

from __future__ import annotations

import errno
import os
import sys
from importlib import import_module

from job import settings
from job.console import logs, streams
from job.errors import Fault, Interrupted, TemporaryFault
from job.interrupt import Stop, ignore_signals, stop_on_signals
from job.runs import status

MODES = {  # MODE → the module whose `run` does it
    "run": "job.modes.run",
    "check": "job.modes.check",
    "summary": "job.modes.summary",
    "verify": "job.modes.verify",
    "predict": "job.modes.predict",
    "export": "job.modes.export",
}


def main(arguments: list[str]) -> int:
    """Runs the job and returns the exit code that tells what to do next (see `job.errors`)."""
    settings.settle()
    logs.start(settings.log_format())
    try:
        if arguments in (["--help"], ["-h"]):
            say(settings.help_text())
            return 0
        print_env = arguments == ["--print-env"]
        if arguments and not print_env:
            raise Fault(
                f"unknown argument: {' '.join(arguments)}.", "Everything is set by variables: python -m job --help"
            )
        wanted = settings.load(strict=print_env)
        if print_env:
            say(settings.env_file(wanted).rstrip("\n"))
            return 0
        if wanted.mode != "check":  # which shows them in a line of its own
            for note in settings.notes(wanted):
                logs.event("settings", note, level="WARNING")
        with stop_on_signals() as stop:
            do(wanted, stop)
    except Fault as fault:
        status.write_termination_log(str(fault))
        logs.event("fault", str(fault), level="ERROR", what=fault.what, remedy=fault.remedy, exit_code=fault.exit_code)
        return fault.exit_code
    except Interrupted as interrupted:
        status.write_termination_log(str(interrupted))
        logs.event("interrupted", str(interrupted), level="WARNING", exit_code=interrupted.exit_code)
        return interrupted.exit_code
    return 0


def do(wanted: settings.Settings, stop: Stop) -> None:
    """What MODE says. torch is loaded only here, after the settings proved right."""
    try:
        mode = import_module(MODES[wanted.mode])
    except Exception as error:
        fault = settings.blamed(error)
        if fault is None:
            raise
        raise fault from None
    from job.console import progress

    stop.check()
    shown = progress.Progress(progress.mode(wanted.progress, wanted.log_format))
    try:
        mode.run(wanted, shown, stop)
    finally:
        shown.close()


def say(text: str) -> None:
    """Prints `text`; a reader who has seen enough (`| head`) may leave. Raises TemporaryFault where it is cut off."""
    print(text, flush=True)
    lost = getattr(sys.stdout, "failed", None)
    if lost is not None and lost.errno != errno.EPIPE:
        raise TemporaryFault(f"standard output cannot be written ({lost.strerror}).", "Make room, or write elsewhere.")


if __name__ == "__main__":
    streams.hold()
    code = main(sys.argv[1:])
    ignore_signals()
    if "ray" in sys.modules:  # its threads, still closing their connections, abort a process that ends the usual way
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
