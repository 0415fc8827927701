"""The only reader of the environment: every variable with its type, default, range and meaning.

Loaded before torch, so that a wrong setting is told within a second.
"""

from __future__ import annotations

from job.settings.checked import Settings
from job.settings.environment import authorities, blamed, faults, in_notebook, load, log_format, no_color, notes, settle
from job.settings.foreign import OF_S3
from job.settings.help import env_file, help_text
from job.settings.rules import default_of
from job.settings.table import extra, variables

__all__ = [
    "OF_S3",
    "Settings",
    "authorities",
    "blamed",
    "default_of",
    "env_file",
    "extra",
    "faults",
    "help_text",
    "in_notebook",
    "load",
    "log_format",
    "no_color",
    "notes",
    "settle",
    "variables",
]
