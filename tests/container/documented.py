"""The `docker run` lines of README and docs, as they stand, by an ordinary user of the machine.

The shell that reads them is that user's; what it would hand to docker is written down and run with podman, with small
settings and without GPUs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from tests.container.place import FILES, TINY, outputs_are_whole
from tests.container.shell import IMAGE, ROOT, sh

USER = 4321
PAGES = ("README.md", "docs/image.md", "docs/configuration.md", "docs/adding-a-data-set.md")
BLOCK = re.compile(r"^```(?:sh|console|)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
DOCKER = """#!/bin/sh
printf '%s\\0' "$@" >docker.arguments
"""


def lines() -> Iterator[tuple[str, str]]:
    """Page and commands: each `docker run` with the `mkdir` before it. Those that write to a bucket are named aloud."""
    for page in PAGES:
        for block in BLOCK.findall((ROOT / page).read_text()):
            every = block.splitlines()
            for number, line in enumerate(every):
                if not line.startswith("docker run"):
                    continue
                if "s3://" in line:
                    print(f"SKIPPED  {page}, which needs a bucket: {line[:100]}", flush=True)
                    continue
                before = [other for other in every[:number] if other.startswith("mkdir")]
                yield f"{page}: {line[:60]}…", "\n".join([*before, line])


def home(work: Path, name: str) -> Path:
    """A folder of the ordinary user with an env file as `--print-env=all` writes one, default places and all."""
    folder = work / name
    folder.mkdir()
    text = (ROOT / "env.example").read_text()
    for variable, value in {**TINY, "MODEL": "mlp"}.items():
        text = re.sub(rf"^{variable}=.*$", f"{variable}={value}", text, flags=re.MULTILINE)
    (folder / "run.env").write_text(text)
    (folder / "bin").mkdir()
    (folder / "bin" / "docker").write_text(DOCKER)
    (folder / "bin" / "docker").chmod(0o755)
    for path in (folder, folder / "run.env"):
        os.chown(path, USER, USER)
    work.chmod(0o755)
    return folder


def handed_to_docker(folder: Path, script: str) -> list[str]:
    """What a shell of the ordinary user makes of the lines."""
    as_user = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
    sh(*as_user, "env", f"PATH={folder}/bin:/usr/bin:/bin", "sh", "-euc", f"cd {folder}; {script}")
    return (folder / "docker.arguments").read_text().split("\0")[:-1]


def with_podman(arguments: list[str], folder: Path) -> tuple[int, str]:
    """The same container without GPUs and with a run that takes seconds; its exit code and what it said."""
    while "--gpus" in arguments:
        at = arguments.index("--gpus")
        del arguments[at : at + 2]
    options, image = arguments[1:-1], arguments[-1]
    assert re.fullmatch(r"image-classification-job:[\d.]+", image), image
    small = [f"--env={name}={value}" for name, value in TINY.items()]
    done = sh("podman", "run", "--rm", "--network", "none", *options, *small, IMAGE, check=False, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def as_written(script: str, work: Path) -> str:
    """The results are in the mounted folder, and they are the user's."""
    folder = home(work, f"user-{len(list(work.glob('user-*')))}")
    code, said = with_podman(handed_to_docker(folder, script), folder)
    assert code == 0, said[-3000:]
    (manifest,) = (folder / "outputs").glob("*/manifest.json")
    outputs_are_whole(manifest.parent, FILES - {"tuning.png"})
    assert {file.stat().st_uid for file in manifest.parent.iterdir()} == {USER}
    return manifest.parent.name


def folder_of_root(work: Path) -> str:
    """As Docker makes it where nobody did: 78, and the message says how it becomes one's own."""
    folder = home(work, "user-of-root")
    (folder / "outputs").mkdir()
    script = next(text.splitlines()[-1] for _, text in lines())
    code, said = with_podman(handed_to_docker(folder, script), folder)
    assert code == 78, said[-3000:]
    assert "sudo chown" in said, said[-3000:]
    assert not list((folder / "outputs").iterdir())
    return next(line for line in said.splitlines() if line.startswith("error:"))[:120]
