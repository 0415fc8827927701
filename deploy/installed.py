"""What is installed where this runs, as JSON: Python's packages and, but for the argument `python`, Debian's.

Needs the standard library alone, as it is run by the image's own Python: `podman run … python - < deploy/installed.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

MARK = "License :: OSI Approved :: "


def licence(found: Distribution) -> str:
    """As the package says it: an SPDX expression where there is one, else its classifiers, else the old field."""
    about = found.metadata
    classified = [
        each.removeprefix(MARK) for each in about.get_all("Classifier") or () if each.startswith("License ::")
    ]
    expression, *_ = about.get_all("License-Expression") or ("",)
    field, *_ = about.get_all("License") or ("",)
    stated = field.strip().splitlines()
    return expression or " and ".join(classified) or (stated[0][:100] if stated else "")


def python() -> list[dict[str, str]]:
    found = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): {"version": each.version, "licence": licence(each)}
        for each in distributions()
    }
    return [{"name": name, **about} for name, about in sorted(found.items())]


def debian() -> list[dict[str, str]]:
    """Their licences are in the image, in /usr/share/doc/NAME/copyright, which no program reads as one word."""
    if shutil.which("dpkg-query") is None:
        return []
    asked = ["dpkg-query", "--show", "--showformat", "${Package} ${Version} ${Architecture}\\n"]
    lines = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.splitlines()
    return [dict(zip(("name", "version", "architecture"), line.split(), strict=True)) for line in sorted(lines)]


def distribution() -> str:
    """Debian or Ubuntu, as a package's address calls it."""
    try:
        said = Path("/etc/os-release").read_text()
    except OSError:
        said = ""
    found = re.search(r"^ID=\"?(\w+)", said, re.MULTILINE)
    return found[1] if found else "debian"


if __name__ == "__main__":
    alone = sys.argv[1:] == ["python"]
    print(json.dumps({"python": python(), "debian": [] if alone else debian(), "distribution": distribution()}))
