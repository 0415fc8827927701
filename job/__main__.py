"""The entry point: signals → settings → logging → mode → exit code."""

from __future__ import annotations

import errno
import os
import sys
import threading
from importlib import import_module
from typing import Any

from job.console import streams
from job.interrupt import Stop, ignore_signals, stop_on_signals

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
    with stop_on_signals(late=out_of_time) as stop:
        from job.console import logs
        from job.errors import Interrupted, as_fault

        try:
            from job import settings

            settings.settle()
            logs.start(settings.log_format())
            return started(arguments, stop)
        except Interrupted as interrupted:
            return interrupted_by(interrupted.signum)
        except Exception as error:
            fault = as_fault(error)
            if fault is None:
                raise
            what, remedy, code = fault.what, fault.remedy, stop.exit_code(fault.exit_code)
            if stop.signum is None:
                write_termination_log(str(fault))
                logs.event("fault", str(fault), level="ERROR", what=what, remedy=remedy, exit_code=code)
                return code
            logs.event("fault", str(fault), level="WARNING", what=what, remedy=remedy)
            return interrupted_by(stop.signum)


def started(arguments: list[str], stop: Stop) -> int:
    """Does what the arguments and MODE say."""
    from job import settings
    from job.console.logs import event
    from job.errors import Fault
    from job.settings import temporary

    if arguments in (["--help"], ["-h"]):
        say(settings.help_text())
        return 0
    print_env = arguments in (["--print-env"], ["--print-env=all"])
    if arguments and not print_env:
        raise Fault(f"unknown argument: {' '.join(arguments)}.", "Everything is set by variables: python -m job --help")
    wanted = settings.load(strict=print_env)
    if print_env:
        say(settings.env_file(wanted, everything=arguments != ["--print-env"]).rstrip("\n"))
        return 0
    if wanted.mode != "check":  # which shows them in a line of its own
        for note in settings.notes(wanted):
            event("settings", note, level="WARNING")
    stop.check()
    temporary.settle(temporary.places_of(wanted))
    from job.console import progress

    mode = loaded(MODES[wanted.mode])
    how = progress.mode(wanted.progress, wanted.log_format, settings.in_notebook())
    shown = progress.Progress(how, stop.check)
    try:
        mode.run(wanted, shown, stop)
    finally:
        shown.close()
    return 0


def loaded(module: str) -> Any:
    """The mode's module, and torch with it: only now that the settings proved right."""
    from job import settings
    from job.errors import check_torch

    check_torch()
    try:
        return import_module(module)
    except Exception as error:
        fault = settings.blamed(error)
        if fault is None:
            raise
        raise fault from None


def interrupted_by(signum: int) -> int:
    from job.console import logs
    from job.errors import Interrupted

    told = Interrupted(signum)
    write_termination_log(str(told))
    logs.event("interrupted", str(told), level="WARNING", exit_code=told.exit_code)
    return told.exit_code


def out_of_time(signum: int) -> None:
    """Says why the process ends in the middle of something."""
    from job.console import logs

    logs.event(
        "interrupted",
        f"stopped by signal {signum}; not all could be written in the time after it, perhaps as a store or disk hangs",
        level="WARNING",
        exit_code=128 + signum,
    )


def write_termination_log(line: str) -> None:
    from job.runs import status

    status.write_termination_log(line)


def say(text: str) -> None:
    """Prints `text`; a reader who has seen enough (`| head`) may leave. Raises TemporaryFault where it is cut off."""
    from job.errors import TemporaryFault

    print(text, flush=True)
    lost = getattr(sys.stdout, "failed", None)
    if lost is not None and lost.errno != errno.EPIPE:
        raise TemporaryFault(f"standard output cannot be written ({lost.strerror}).", "Make room, or write elsewhere.")


def leave(code: int) -> None:
    """Ends the process. Threads that hang in a store are not waited for, nor are Ray's, whose end aborts it."""
    ignore_signals()
    others = [thread for thread in threading.enumerate() if thread is not threading.main_thread()]
    if "ray" in sys.modules or others:
        sys.stdout.flush()
        sys.stderr.flush()
        if "job.settings.temporary" in sys.modules:
            sys.modules["job.settings.temporary"].leave()
        os._exit(code)
    sys.exit(code)


if __name__ == "__main__":
    streams.hold()
    leave(main(sys.argv[1:]))
