"""`make release`: builds, tests and tags the images of a version, and says what is in them.

The version is the git tag of the commit, `v` before what pyproject.toml says; a tree with changes, a commit without a
tag or with another one is refused. For each image: `make build`, a whole small run, its export, its verification as a
stranger would run them (any user, read-only, no network, no capabilities), then build/release/IMAGE/ with
sbom.cdx.json (CycloneDX), licences.csv and digest. Nothing is pushed: the workflow in .github/ does that, and signs.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = Path("build/release")
KINDS = {"default": "", "cpu": "-cpu", "cu126": "-cu126", "ray": "-ray"}  # image → what its tag ends with
STRICT = ("--rm", "--user", "12345", "--read-only", "--cap-drop", "ALL", "--network", "none", "--tmpfs", "/tmp")
SMALL = {"MODEL": "mlp", "DATASET": "synthetic", "DATA_LIMIT": "400", "LEARNING_RATE": "0.001", "EPOCHS": "1"}
SMALL |= {"RUN_ID": "release", "DEVICE": "cpu"}
EXPORT = {"MODE": "export", "EXPORT_FORMAT": "onnx,pt2,safetensors"}


class Refused(Exception):
    """Why there is no release, and what to do."""


@dataclass(frozen=True)
class Maker:
    """How images are made: the container engine, what make is told beside that, and the venv with CycloneDX."""

    engine: str
    name: str
    base: str
    build_args: str
    tools: Path

    def image(self, version: str, kind: str) -> str:
        return f"{self.name}:{version}{KINDS[kind]}"


def run(*command: str | Path, given: str | None = None) -> str:
    """What the command prints. Raises CalledProcessError with all it said."""
    return subprocess.run(
        [str(part) for part in command], cwd=ROOT, check=True, capture_output=True, text=True, input=given
    ).stdout


def version_here() -> str:
    """The version of this very commit. Raises Refused."""
    if not shutil.which("git") or not run("git", "rev-parse", "--is-inside-work-tree").strip() == "true":
        raise Refused("this is no git repository: clone it, so that the version is a commit's.")
    changed = run("git", "status", "--porcelain").splitlines()
    if changed:
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        names = ", ".join(line[3:] for line in changed[:5])
        raise Refused(f"there are changes that no commit has: {names}{more}. Commit them, or git stash -u.")
    written = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert written is not None
    tags = [tag for tag in run("git", "tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    if not tags:
        raise Refused(f"this commit has no version's tag. To release it as {written[1]}: git tag v{written[1]}")
    if tags != [f"v{written[1]}"]:
        raise Refused(
            f"the tag says {', '.join(tags)} and pyproject.toml {written[1]}: write one version into it, commit, then "
            f"git tag -f v… on that commit, with one such tag alone."
        )
    return written[1]


def build(maker: Maker, version: str, kind: str) -> None:
    image = maker.image(version, kind)
    if kind == "ray":
        run("make", "build-ray", f"ENGINE={maker.engine}", f"IMAGE={image.removesuffix('-ray')}")
        return
    asked = [f"ENGINE={maker.engine}", f"IMAGE={image}", f"TORCH={'' if kind == 'default' else kind}"]
    asked += [f"BASE_IMAGE={maker.base}"] if maker.base else []
    run("make", "build", *asked, *([f"BUILD_ARGS={maker.build_args}"] if maker.build_args else []))


def tested(maker: Maker, image: str, kind: str) -> str:
    """A run with its export, or that Ray's image has Ray beside the job. Raises CalledProcessError."""
    if kind == "ray":
        return run(
            maker.engine, "run", *STRICT, image, "sh", "-c", "ray --version && python -m job --help >/dev/null"
        ).strip()
    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o777)
        for variables in (SMALL, SMALL | EXPORT, SMALL | {"MODE": "verify"}):
            given = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
            run(maker.engine, "run", *STRICT, "--volume", f"{place}:/outputs", *given, image)
        files = json.loads((Path(place) / "release" / "manifest.json").read_text())["files"]
        said = f"a run, its export and their verification: {len(files)} files"
        run(
            maker.engine,
            "run",
            "--rm",
            "--user",
            "0",
            "--entrypoint",
            "sh",
            "--volume",
            f"{place}:/outputs",
            image,
            "-c",
            "rm -rf /outputs/*",
        )  # they belong to another user
    return said


def told(maker: Maker, image: str, version: str) -> str:
    """The parts list and the digest, in their folder."""
    folder = BUILD / image.replace("/", "_").replace(":", "_")
    script = (ROOT / "deploy" / "installed.py").read_text()
    python = ("--entrypoint", "/opt/venv/bin/python", image, "-")
    found = run(maker.engine, "run", "--rm", "-i", "--network", "none", *python, given=script)
    listed = run(maker.tools / "python", "-m", "deploy.parts_list", image, version, folder, given=found)
    digest = run(maker.engine, "image", "inspect", "--format", "{{.Id}}", image).strip()
    (folder / "digest").write_text(digest + "\n")
    (folder / "image").write_text(image + "\n")
    return f"{listed.strip()}\n  digest of its configuration: {digest}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", default="docker")
    parser.add_argument("--name", default="image-classification-job", help="with its registry, as in ghcr.io/me/job")
    parser.add_argument("--only", default=",".join(KINDS), help="of them, with commas between")
    parser.add_argument("--base", default="", help="a base image for all of them, in the place of each one's own")
    parser.add_argument("--build-args", default="")
    parser.add_argument("--tools", type=Path, required=True, help="the venv's bin with cyclonedx-python-lib")
    given = parser.parse_args()
    kinds = given.only.split(",")
    maker = Maker(given.engine, given.name, given.base, given.build_args, given.tools.absolute())
    try:
        if unknown := set(kinds) - set(KINDS):
            raise Refused(f"ONLY={given.only}: there is no {', '.join(sorted(unknown))}; choose of {', '.join(KINDS)}.")
        if shutil.which(maker.engine) is None:
            raise Refused(f"there is no {maker.engine} here: install it, or name another with ENGINE=.")
        version = version_here()
        for kind in kinds:
            image = maker.image(version, kind)
            print(f"{image}: build", flush=True)
            build(maker, version, kind)
            print(f"  tested: {tested(maker, image, kind)}", flush=True)
            print(f"  {told(maker, image, version)}", flush=True)
    except Refused as reason:
        print(f"no release: {reason}", file=sys.stderr)
        return 78
    except subprocess.CalledProcessError as error:
        print(f"no release: {' '.join(map(str, error.cmd))} ended with {error.returncode}:", file=sys.stderr)
        print(((error.stdout or "") + (error.stderr or ""))[-4000:], file=sys.stderr)
        return 1
    print(f"released here as {version}: {', '.join(maker.image(version, kind) for kind in kinds)}; nothing was pushed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
