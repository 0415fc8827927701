"""What a check found, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass

from job.errors import Fault


@dataclass(frozen=True)
class Finding:
    """`result` is `ok`, `warn`, `fail` or `skip` (not checked); `exit_code` is what a run would end with. `seconds` is
    what a prediction says, for programs.
    """

    name: str
    result: str
    detail: str
    remedy: str = ""
    exit_code: int = 0
    seconds: float | None = None


def ok(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


def warn(name: str, detail: str, remedy: str = "") -> Finding:
    return Finding(name, "warn", detail, remedy)


def failed(name: str, fault: Fault) -> Finding:
    return Finding(name, "fail", fault.what, fault.remedy, fault.exit_code)
