"""Prints the Job for the variables that are set: `python -m deploy.kubernetes.render IMAGE | kubectl apply -f -`.

MODEL=all prints the Indexed Job for every model, or for those in MODELS.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy import variables

HERE = Path(__file__).parent
SECRET = "image-classification-s3"
MOUNTS, VOLUMES = "          volumeMounts:\n", "      volumes:\n"
OUTPUT_VOLUME = """\
        - name: output # make the claim first: results, and states to go on from, outlive the pod there
          persistentVolumeClaim:
            claimName: image-classification-output
"""
EDIT = re.compile(r"( *)# ---- EDIT ----\n(.*?) *# ---- EDIT END ----\n", re.DOTALL)


def render(image: str, given: Mapping[str, str], models: tuple[str, ...]) -> str:
    """The manifest with `image` and the variables in `given` in the place that is marked for editing."""
    settings = variables.elsewhere(
        given,
        "the manifest",
        f"Put it into the secret that the job reads: kubectl create secret generic {SECRET} --from-env-file=FILE",
    )
    everything = settings.get("MODEL") == "all"
    if everything:
        del settings["MODEL"]
        settings["MODELS"] = ",".join(variables.check_model(model) for model in models)
        name = "all-models"
    else:
        name = variables.check_model(settings.setdefault("MODEL", "cnn")).replace("_", "-")
    if not settings.get("OUTPUT", "").startswith(("s3://", "/")):
        raise variables.WrongSetting(
            "OUTPUT is needed: s3://bucket/prefix, or a directory in the container that a volume is mounted to. "
            "A pod's own files are gone when it ends."
        )
    text = (HERE / ("all-models.yaml" if everything else "job.yaml")).read_text()
    text = text[text.index("apiVersion:") :]
    text = text.replace(job("all-models" if everything else "cnn"), job(name), 1)
    if everything:
        text = re.sub(r"(completions|parallelism|maxFailedIndexes): \d+", rf"\g<1>: {len(models)}", text)
    if settings["OUTPUT"].startswith("/"):
        text = text.replace(
            MOUNTS, f"{MOUNTS}            - name: output\n              mountPath: {settings['OUTPUT']}\n", 1
        )
        text = text.replace(VOLUMES, VOLUMES + OUTPUT_VOLUME, 1)
    return EDIT.sub(lambda found: edited(found, image, settings), text, count=1)


def job(name: str) -> str:
    return f"image-classification-{name}"


def edited(found: re.Match[str], image: str, settings: Mapping[str, str]) -> str:
    """The block with `image` and `env`; what the template sets and `settings` do not is kept."""
    indent, template = found.groups()
    defaults = re.findall(r'- name: (\w+)(?: #.*)?\n\s*value: "(.*)"\n', template)
    environment = {**{name: value for name, value in defaults if name not in ("MODEL", "MODELS")}, **settings}
    lines = [f"image: {image}", "env:"]
    for name, value in environment.items():
        lines += [f"  - name: {name}", f"    value: {json.dumps(value)}"]  # a JSON text is a YAML text
    return "".join(f"{indent}{line}\n" for line in lines)


def main() -> None:
    chosen = os.environ.get("MODELS", "").replace(",", " ").split()
    print(render(sys.argv[1], variables.given(), tuple(chosen) or variables.models()), end="")


if __name__ == "__main__":
    main()
