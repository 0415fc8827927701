"""What `--help` and `--print-env` print."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator

from job.settings import environment
from job.settings.checked import Settings
from job.settings.redaction import told, without_secrets
from job.settings.rules import bounds, default_of, type_of, value_of
from job.settings.table import extra, variables

HEAD = """usage: python -m job [--help | --print-env[=all]]

Tunes, trains and reports an image classifier. Everything is set by environment variables, shown here as they are now;
--print-env writes those that are not the defaults, as a file for `docker run --env-file`, --print-env=all every one."""
FOOT = "Exit codes: 0 finished, 78 a fault to mend first, 75 try again, 143 stopped by SIGTERM, 130 by SIGINT, 1 a bug."
WIDEST = 120


def groups() -> Iterator[tuple[str, list[str]]]:
    """Heading and variables, in the order of the documentation."""
    names: dict[str, list[str]] = {}
    for name in variables():
        names.setdefault(extra(name)["group"], []).append(name.upper())
    yield from names.items()


def description(name: str) -> str:
    return (variables()[name.lower()].description or "").replace("`", "")


def help_text() -> str:
    """Every variable by group: its value now and where that comes from, meaning, type, range and default."""
    settings, wrong = environment.read()
    width = min(WIDEST, shutil.get_terminal_size((WIDEST, 24)).columns)
    lines = [HEAD]
    for heading, names in groups():
        lines += ["", heading]
        for name in names:
            given = environment.raw(name)
            value = told(given) or default_of(name) or "none"
            lines.append(f"  {name} = {value}  ({'environment' if given else 'default'})")
            rule = f"{type_of(name)}{bounds(name)}; default: {default_of(name) or 'none'}"
            for text in (description(name), rule, *(f"WRONG: {fault}" for fault in wrong.get(name, ()))):
                lines += textwrap.wrap(text, width, initial_indent=" " * 6, subsequent_indent=" " * 8)
    others = [f"WRONG: {fault}" for name in wrong if name not in environment.names() for fault in wrong[name]]
    for text in [*others, *(f"NOTE: {note}" for note in environment.notes(settings))]:
        lines += ["", *textwrap.wrap(text, width, subsequent_indent=" " * 6)]
    return "\n".join([*lines, "", FOOT])


def env_file(settings: Settings, everything: bool = False) -> str:
    """What differs from the defaults, ready for `docker run --env-file`, where a default written out would take the
    place of the image's own; or `everything`, as in `env.example`.

    An address that holds a password or key is left out, with a line that says so.
    """
    which = "Every variable of the job" if everything else "The job's variables that differ from the defaults"
    lines = [f"# {which}; one that is empty counts as not set."]
    for heading, names in groups():
        wanted = [name for name in names if everything or value_of(settings, name) != default_of(name)]
        lines += ["", f"# {heading}"] if wanted else []
        for name in wanted:
            value = value_of(settings, name)
            shown = without_secrets(value)
            lines.append(f"# {description(name)}")
            lines.append(f"{name}={value}" if shown == value else f"# left out, holds a secret: {name}={shown}")
    return "\n".join(lines) + "\n"
