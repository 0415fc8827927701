"""The only reader of the environment: every variable with its type, default, range and meaning.

Loaded before torch, so that a wrong setting is told within a second.
"""

from __future__ import annotations

from job.settings.environment import faults, load, log_format, no_color
from job.settings.help import env_file, help_text
from job.settings.rules import default_of
from job.settings.variables import Settings, extra, variables

__all__ = [
    "Settings",
    "default_of",
    "env_file",
    "extra",
    "faults",
    "help_text",
    "load",
    "log_format",
    "no_color",
    "variables",
]
