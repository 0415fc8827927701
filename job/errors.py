"""What can go wrong for a person, and the exit code that tells a scheduler whether to try again.

Exit codes follow sysexits.h: 78 is EX_CONFIG, 75 is EX_TEMPFAIL.
"""

from __future__ import annotations


class Fault(Exception):
    """A fault that a retry cannot mend: settings, data set, permissions, a missing bucket.

    `what` names what happened and where (variable or file); `remedy` says what to do about it.
    Both are shown to the user, so neither may hold a secret.
    """

    exit_code = 78

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n  {self.remedy}" if self.remedy else self.what


class TemporaryFault(Fault):
    """A fault that a retry may mend: network, store not reachable, disk full. State is kept."""

    exit_code = 75


def not_installed(variable: str, package: str, command: str) -> Fault:
    """The fault of a setting that needs an optional package which is not there."""
    return Fault(f"{variable} is set, but {package} is not installed.", f"Install it: {command}; or unset {variable}.")


class Interrupted(Exception):
    """A signal asked the job to stop. State is kept; the exit code is 128 + the signal's number."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum
        self.exit_code = 128 + signum
