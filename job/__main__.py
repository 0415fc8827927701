"""The entry point: settings → logging → signals → mode → exit code."""

from __future__ import annotations

import os
import sys
from importlib import import_module

from job import settings
from job.console import logs
from job.errors import Fault, Interrupted
from job.interrupt import ignore_signals, stop_on_signals
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
    if arguments in (["--help"], ["-h"]):
        say(settings.help_text())
        return 0
    logs.start(settings.log_format())
    try:
        print_env = arguments == ["--print-env"]
        if arguments and not print_env:
            raise Fault(
                f"unknown argument: {' '.join(arguments)}.", "Everything is set by variables: python -m job --help"
            )
        wanted = settings.load(strict=print_env)
        if print_env:
            say(settings.env_file(wanted).rstrip("\n"))
            return 0
        with stop_on_signals() as stop:
            from job.console import progress  # torch is loaded only now, after the settings proved right

            stop.check()
            shown = progress.Progress(progress.mode(wanted.progress, wanted.log_format))
            try:
                import_module(MODES[wanted.mode]).run(wanted, shown, stop)
            finally:
                shown.close()
    except Fault as fault:
        status.write_termination_log(str(fault))
        logs.event("fault", str(fault), level="ERROR", what=fault.what, remedy=fault.remedy, exit_code=fault.exit_code)
        return fault.exit_code
    except Interrupted as interrupted:
        status.write_termination_log(str(interrupted))
        logs.event("interrupted", str(interrupted), level="WARNING", exit_code=interrupted.exit_code)
        return interrupted.exit_code
    return 0


def say(text: str) -> None:
    """Prints `text`; a reader who has seen enough (`| head`) may leave."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    code = main(sys.argv[1:])
    ignore_signals()
    if "ray" in sys.modules:  # its threads, still closing their connections, abort a process that ends the usual way
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
