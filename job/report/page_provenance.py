"""What `report.html` tells of how a run was made, and the command that repeats it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import Any

from job.report.records import RunReport

UNTOLD = ("MODE", "INPUT", "FRESH", "PROGRESS", "LOG_FORMAT")  # what a command that repeats a run does without
PLACES = ("OUTPUT", "WORKERS", "RAY_ADDRESS")  # settings that say where a run ran and leave its result alone


@dataclass(frozen=True)
class Setting:
    """A variable; `varies` where equal runs may differ in it."""

    name: str
    value: str
    source: str
    varies: bool

    @property
    def text(self) -> str:
        """As a shell reads it."""
        return f"{self.name}={shlex.quote(self.value)}"


@dataclass(frozen=True)
class Provenance:
    """`commit` is empty where none is known; `command` are the variables that were set, those of places last."""

    commit: str
    edited: bool
    secret: bool
    command: tuple[Setting, ...]
    made_with: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]


def provenance(report: RunReport) -> Provenance:
    settings = tuple(
        Setting(name, shown(value), report.sources[name], name in PLACES) for name, value in report.settings.items()
    )
    given = [one for one in settings if one.source == "environment" and one.name not in UNTOLD]
    commit = str(report.provenance.get("git_commit") or "")
    return Provenance(
        commit=commit.removesuffix("-dirty"),
        edited=commit.endswith("-dirty"),
        secret=any("***" in one.value for one in given),
        command=tuple(sorted(given, key=lambda one: one.varies)),
        made_with=made_with(report),
        settings=settings,
    )


def made_with(report: RunReport) -> tuple[tuple[str, str], ...]:
    versions = report.provenance.get("versions", {})
    rows = (
        ("Device", report.device),
        ("Not all of it", "; ".join(report.provenance.get("changes", []))),
        ("Precision", sentence(report.provenance, "precision", "precision_reason")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions.items() if value)),
        ("Platform", report.provenance.get("platform")),
        ("Commit", report.provenance.get("git_commit")),
        ("Data", sentence(report.data, "name", "origin")),
        ("Fetched from", sentence(report.data.get("fetched") or {}, "address", "sha256")),
        ("Data SHA-256", report.data.get("sha256")),
        ("Weights that it started from, SHA-256", (report.provenance.get("pretrained") or {}).get("sha256")),
    )
    return tuple((name, str(value)) for name, value in rows if value)


def sentence(values: dict[str, Any], name: str, reason: str) -> str:
    return f"{values[name]} ({values[reason]})" if values.get(reason) else str(values.get(name) or "")


def shown(value: Any) -> str:
    """A setting as one writes it in the environment."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
