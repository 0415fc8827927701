"""An image's parts list: CycloneDX (an SBOM, https://cyclonedx.org) and a table of licences, as `installed` tells.

python -m deploy.parts_list NAME VERSION FOLDER < installed.json

Needs cyclonedx-python-lib, which is in the venv of `make lint-deploy`.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

UNSTATED = "not stated"
BOM, LICENCES = "sbom.cdx.json", "licences.csv"


def components(found: Mapping[str, Any]) -> list[Any]:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    def licences(text: str) -> list[Any]:
        return [LicenseFactory().make_from_string(text)] if text else []

    python = [
        Component(
            name=each["name"],
            version=each["version"],
            type=ComponentType.LIBRARY,
            purl=PackageURL("pypi", None, each["name"], each["version"]),
            bom_ref=f"pypi/{each['name']}",
            licenses=licences(each["licence"]),
        )
        for each in found["python"]
    ]
    debian = [
        Component(
            name=each["name"],
            version=each["version"],
            type=ComponentType.LIBRARY,
            purl=PackageURL(
                "deb", found["distribution"], each["name"], each["version"], {"arch": each["architecture"]}
            ),
            bom_ref=f"deb/{each['name']}/{each['architecture']}",
        )
        for each in found["debian"]
    ]
    return [*python, *debian]


def bill(name: str, version: str, found: Mapping[str, Any]) -> str:
    """CycloneDX 1.6 as JSON. Raises ValueError where it does not fit the standard's schema."""
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    image = Component(name=name, version=version, type=ComponentType.CONTAINER, bom_ref="image")
    bom = Bom(components=components(found))
    bom.metadata.component = image
    bom.register_dependency(image, bom.components)
    text: str = JsonV1Dot6(bom).output_as_string(indent=1)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong:
        raise ValueError(str(wrong))
    return text


def write(name: str, version: str, found: Mapping[str, Any], folder: Path) -> str:
    """Both files; what is to be said of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / BOM).write_text(bill(name, version, found) + "\n")
    python = [("python", each["name"], each["version"], each["licence"] or UNSTATED) for each in found["python"]]
    copyright = "see /usr/share/doc/{}/copyright in the image"
    debian = [
        (found["distribution"], each["name"], each["version"], copyright.format(each["name"]))
        for each in found["debian"]
    ]
    with (folder / LICENCES).open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("kind", "name", "version", "licence"))
        writer.writerows([*python, *debian])
    unstated = [name for _, name, _, licence in python if licence == UNSTATED]
    said = f"{len(python)} Python packages, {len(debian)} of the distribution: {folder / BOM}, {folder / LICENCES}"
    return said + (f"; no licence stated by {', '.join(unstated)}" if unstated else "")


if __name__ == "__main__":
    print(write(sys.argv[1], sys.argv[2], json.load(sys.stdin), Path(sys.argv[3])))
