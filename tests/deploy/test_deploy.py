"""What hands the job to containers and clusters: command lines and manifests, as text and without an engine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from botocore import xform_name
from botocore.model import Shape
from botocore.session import Session
from botocore.validate import ParamValidator

from deploy import container, run_all, run_ray, variables
from deploy.kaggle import render as kaggle
from deploy.kubernetes import render
from deploy.shares import Shares
from deploy.variables import WrongSetting
from job import models, settings
from tests.conftest import ROOT, TINY, bare_environment
from tests.container import shell


def test_the_variables_and_models_are_the_jobs() -> None:
    assert set(variables.names()) == {name.upper() for name in settings.variables()}
    assert variables.models() == models.names()


def test_one_uv_everywhere() -> None:
    files = ("Makefile", "requirements-dev.in", "Dockerfile")
    versions = {re.search(r"(?:uv==|UV_VERSION=)([\d.]+)", (ROOT / file).read_text())[1] for file in files}  # type: ignore[index]
    assert len(versions) == 1


def test_the_image_has_all_that_is_copied_and_no_more() -> None:
    wanted = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert all((ROOT / name).exists() for name in wanted)
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert {name for line in copied for name in line.split()} == wanted


def test_nothing_uses_what_the_image_leaves_out() -> None:
    """triton is removed from the image: torch.compile would miss it."""
    code = "".join(file.read_text() for file in (ROOT / "job").rglob("*.py"))
    assert "torch.compile" not in code
    assert "triton" not in code


# ---- make build: which wheels ----


def arguments_of_the_build(torch: str) -> list[str]:
    """What the Dockerfile hands to uv for this TORCH: its own shell lines, run by a shell."""
    (lines,) = re.findall(r"if \[ -z \"\$TORCH\" \];.*?\bfi\b", (ROOT / "Dockerfile").read_text(), re.DOTALL)
    script = lines.replace("\\\n", "\n") + "\nprintf '%s\\n' \"$@\""
    done = subprocess.run(["sh", "-euc", script], env={"TORCH": torch}, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def arguments_of_make(target: str, *variables: str) -> list[str]:
    """The words of the one command of `target` that `make` would run with these variables."""
    command = ["make", "--no-print-directory", "--dry-run", "--what-if=requirements.lock", target, *variables]
    environment = {"PATH": os.environ["PATH"]}  # this test may itself be run by make, with variables of its own
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    text = done.stdout.replace("\\\n", " ")
    return next(line for line in text.splitlines() if " build " in line or " pip install " in line).split()


def wheel(folder: Path, version: str) -> None:
    """A torch of this version with nothing in it, in the place of the PyTorch index, which no test reaches."""
    about = f"torch-{version}.dist-info"
    with zipfile.ZipFile(folder / f"torch-{version}-py3-none-any.whl", "w") as archive:
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: torch\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "".join(f"{about}/{name},,\n" for name in ("METADATA", "WHEEL", "RECORD")))


def installed(folder: Path, torch: str) -> tuple[list[str], str]:
    """Which torch uv installs with the build's arguments for TORCH, and what it complains about."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    assert uv, "uv belongs to the development packages (make test), but is not here"
    from_here = ("--target", "target", "--offline", "--no-index", "--find-links", ".", "--no-deps")
    command = [uv, "pip", "install", "--quiet", "--python", sys.executable, *from_here, *arguments_of_the_build(torch)]
    done = subprocess.run(command, cwd=folder, env=bare_environment(), capture_output=True, text=True)
    return [found.name for found in (folder / "target").glob("torch-*")], done.stderr


@pytest.mark.parametrize("torch", ["cpu", "cu126"])
def test_other_wheels_are_of_the_locked_version_and_not_held_to_its_hashes(tmp_path: Path, torch: str) -> None:
    assert f"--torch-backend={torch}" in arguments_of_the_build(torch)
    shutil.copy(ROOT / "requirements.lock", tmp_path)
    (tmp_path / "requirements.in").write_text("torch\n")
    locked = re.search(r"^torch==(\S+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    for version in (locked[1], "99.0"):
        wheel(tmp_path, f"{version}+{torch}")
    assert installed(tmp_path, torch) == ([f"torch-{locked[1]}+{torch}.dist-info"], "")


def test_the_usual_wheels_are_held_to_their_hashes(tmp_path: Path) -> None:
    locked = re.search(r"^torch==([^\s;]+)(?:.*\\\n)+.*\n", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked
    (tmp_path / "requirements.lock").write_text(locked[0])
    wheel(tmp_path, locked[1])
    found, complaint = installed(tmp_path, "")
    assert not found
    assert "Hash mismatch" in complaint


@pytest.mark.parametrize(
    ("torch", "base"),
    [
        ("", "nvidia/cuda:13.0.1-base-ubuntu24.04"),
        ("cu126", "nvidia/cuda:12.6.3-base-ubuntu24.04"),
        ("cpu", "debian:bookworm-slim"),
    ],
)
def test_make_hands_the_build_the_wheels_and_a_base_that_fits_them(torch: str, base: str) -> None:
    words = arguments_of_make("build", f"TORCH={torch}")
    assert f"BASE_IMAGE={base}" in words
    assert f"TORCH={torch}" in words
    mine = arguments_of_make("build", f"TORCH={torch}", "BASE_IMAGE=mine:1", "ENGINE=podman")
    assert "BASE_IMAGE=mine:1" in mine
    assert mine[0] == "podman"
    assert arguments_of_make("install", f"TORCH={torch}")[-len(arguments_of_the_build(torch)) :] == (
        arguments_of_the_build(torch)
    )


# ---- make test-container: what keeps CI safe from it ----


def test_a_command_that_hangs_ends_with_all_that_it_started(tmp_path: Path) -> None:
    number = tmp_path / "number"
    checks = shell.Checks()
    checks("hangs", lambda: shell.sh("sh", "-c", f"sleep 60 & echo $! >{number}; wait"), 0.5)
    checks("goes on", lambda: shell.sh("true"))
    assert (checks.passed, checks.failed) == (1, 1)
    assert not Path(f"/proc/{number.read_text().strip()}/stat").exists() or (
        Path(f"/proc/{number.read_text().strip()}/stat").read_text().split()[2] == "Z"
    )


def test_no_time_is_left_once_it_is_used_up() -> None:
    checks = shell.Checks()
    checks.ends = 0
    checks("too late", lambda: shell.sh("sleep", "60"))
    assert (checks.passed, checks.failed) == (0, 1)


def test_where_containers_cannot_run_nothing_counts_as_passed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.container.check"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("SKIPPED  the container tests did NOT run: podman, runc, debootstrap missing")
    assert done.stdout.endswith("test-container: 0 passed, 0 failed, 1 skipped\n")


# ---- make docker-run ----


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return tmp_path


def test_a_container_gets_the_folders_the_user_and_the_variables(here: Path) -> None:
    given = {"MODEL": "vit", "OUTPUT": "mine"}
    line, environment = container.command("docker", "image", "all", given, ["--cpus", "2"])
    text = " ".join(line)
    assert line[-3:] == ["--cpus", "2", "image"]
    assert f"-v {here}/mine:/outputs -v {here}/data:/data" in text
    assert (here / "mine").is_dir()
    assert f"--user {os.getuid()}:{os.getgid()} " in text
    assert "--gpus all" in text
    assert "--read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges" in text
    assert "--env=MODEL" in line
    assert environment["MODEL"] == "vit"
    assert not any("OUTPUT" in part for part in line)


def test_a_bucket_comes_with_credentials_that_stay_out_of_the_command_line(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/of/this/machine")
    (here / ".aws").mkdir()
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "not-to-be-shown")
    given = {"OUTPUT": "s3://bucket/runs", "DATA_URL": "https://me:not-to-be-shown@host/a.zip?key=not-to-be-shown"}
    line, environment = container.command("docker", "image", "none", given)
    assert "--env=AWS_SECRET_ACCESS_KEY" in line
    assert not any("TOKEN_FILE" in part for part in line)
    assert "not-to-be-shown" not in " ".join(line)
    assert {"--env=OUTPUT", "--env=DATA_URL", "--env=MLFLOW_TRACKING_PASSWORD"} <= set(line)
    assert environment["DATA_URL"] == given["DATA_URL"]
    assert environment["MLFLOW_TRACKING_PASSWORD"] == "not-to-be-shown"
    assert f"{here}/.aws:/aws:ro" in line
    assert "--env=AWS_CONFIG_FILE" in line
    assert environment["AWS_CONFIG_FILE"] == "/aws/config"


def test_a_file_with_weights_is_mounted(here: Path) -> None:
    (here / "resnet18.pth").touch()
    line, environment = container.command("podman", "image", "0", {"PRETRAINED_WEIGHTS": "resnet18.pth"})
    assert f"{here}/resnet18.pth:/weights/resnet18.pth:ro" in line
    assert environment["PRETRAINED_WEIGHTS"] == "/weights/resnet18.pth"
    assert "--device=nvidia.com/gpu=0" in line


def test_images_to_be_classified_are_mounted(here: Path) -> None:
    (here / "photos").mkdir()
    line, environment = container.command("docker", "image", "none", {"MODE": "predict", "INPUT": "photos"})
    assert f"{here}/photos:/input/photos:ro" in line
    assert environment["INPUT"] == "/input/photos"
    _, environment = container.command("docker", "image", "none", {"INPUT": "s3://b/a.png"})
    assert environment["INPUT"] == "s3://b/a.png"


def test_gpus_are_those_that_may_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert container.gpus_here() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert container.gpus_here() == []


# ---- make run-all ----


class Recorded(run_all.Runner):
    """Runs a line of Python in the place of the job: `vit` fails, and every one tells its model and GPU."""

    def command(
        self, model: str, gpu: str | None, quiet: bool, others: Mapping[str, str] = run_all.NOTHING
    ) -> tuple[list[str], dict[str, str]]:
        show = "print(os.environ['MODEL'], os.environ.get('CUDA_VISIBLE_DEVICES'), os.environ.get('MAX_HOURS'))"
        code = f"import os, sys; {show}; sys.exit(int(sys.argv[1]))"
        _, environment = super().command(model, gpu, quiet, others)
        return [sys.executable, "-c", code, "78" if model == "vit" else "0"], environment


def test_all_models_run_past_one_that_fails(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    outcomes = run_all.run_all(Recorded("native", "", ""), ["mlp", "vit", "cnn"], [])
    assert [(outcome.model, outcome.code) for outcome in outcomes] == [("mlp", 0), ("vit", 78), ("cnn", 0)]
    assert "cnn None" in capfd.readouterr().out


def test_several_gpus_share_the_models(capfd: pytest.CaptureFixture[str]) -> None:
    outcomes = run_all.run_all(Recorded("native", "", ""), ["mlp", "cnn", "vit", "resnet18"], ["0", "1"])
    assert {outcome.model for outcome in outcomes} == {"mlp", "cnn", "vit", "resnet18"}
    said = capfd.readouterr().out
    assert re.search(r"^\[mlp\] mlp [01] None$", said, re.MULTILINE)
    assert {match[1] for match in re.finditer(r"on GPU (\d)", said)} == {"0", "1"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_time_is_shared_by_predicted_cost_and_what_is_not_needed_goes_on(tmp_path: Path) -> None:
    """An hour for costs of 1, 2 and 3 with 30 s each for the report, less 15 s a model: a sixth, then two fifths."""
    clock, file = Clock(), tmp_path / "run-all.json"
    shares = Shares(file, 1.0, 1, clock=clock)
    for model, seconds in (("mlp", 100.0), ("cnn", 200.0), ("vit", 300.0)):
        shares.cost(model, seconds)
    assert float(shares.of("mlp", ["cnn", "vit"])) == pytest.approx((60 + (3600 - 60 - 180) / 6) / 3600, abs=1e-5)
    clock.now = 100
    again = Shares(file, 1.0, 1, clock=clock)
    assert again.known("vit")
    assert again.of("mlp", ["cnn", "vit"]) == shares.of("mlp", ["cnn", "vit"]), "decided once, for the same run"
    assert float(shares.of("cnn", ["vit"])) == pytest.approx((60 + (3500 - 45 - 120) * 2 / 5) / 3600, abs=1e-5)
    clock.now = 3000
    assert float(shares.of("vit", [])) == pytest.approx((600 - 30) / 3600, abs=1e-5), "all that is left"
    assert Shares(file, 1.0, 1, clock=clock).left == 3600 - 3000
    assert Shares(file, 2.0, 1, clock=clock).left == 7200, "another limit is another matter"
    assert Shares(file, 1.0, 1, clock=clock, fresh=True).left == 3600


def test_side_by_side_models_have_the_time_at_once(tmp_path: Path) -> None:
    shares = Shares(tmp_path / "run-all.json", 1.0, 2, clock=Clock())
    shares.cost("mlp", 100.0)
    shares.cost("cnn", 300.0)
    shares.cost("vit", None)  # could not be told: the others' mean
    assert float(shares.of("cnn", ["mlp", "vit"])) == pytest.approx((3600 - 45) / 3600, abs=1e-5), "no more than all"
    expected = 60 + (3600 - 37.5 - 90) * 2 / 3
    assert float(shares.of("mlp", ["vit"])) == pytest.approx(expected / 3600, abs=1e-5)


def test_a_small_model_beside_a_large_one_is_not_left_with_nothing(tmp_path: Path) -> None:
    """By its cost alone it would have 6 of 600 s, which are not enough for the report."""
    shares = Shares(tmp_path / "run-all.json", 645 / 3600, 1, clock=Clock())
    shares.cost("mlp", 100.0)
    shares.cost("vit", 9900.0)
    assert float(shares.of("mlp", ["vit"])) == pytest.approx((60 + (600 - 120) / 100) / 3600, abs=1e-5)
    short = Shares(tmp_path / "short.json", 105 / 3600, 1, clock=Clock())
    short.cost("mlp", 100.0)
    short.cost("vit", 9900.0)
    assert float(short.of("mlp", ["vit"])) == pytest.approx(30 / 3600, abs=1e-5), "the same for each"


def test_every_model_gets_its_hours(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shares = Shares(tmp_path / "run-all.json", 1.0, 1, clock=Clock())
    runner = Recorded("native", "", "")
    runner.predict(["mlp", "cnn"], shares)
    run_all.run_all(runner, ["mlp", "cnn"], [], shares)
    said = capfd.readouterr().out
    assert "== mlp within 0.49375 hours\nmlp None 0.49375" in said
    assert "cnn None 0.99167" in said, "the clock stands still, and nothing follows it"


def test_the_gpus_are_shared_so_that_all_models_run_at_once() -> None:
    assert run_ray.share(8, 5) == 1
    assert run_ray.share(2, 5) == 0.4
    assert 3 * run_ray.share(1, 3) <= 1
    assert run_ray.share(0, 5) == 0


def test_run_all_natively(tmp_path: Path) -> None:
    wanted = {**TINY, "LEARNING_RATE": "0.001", "EPOCHS": "1", "OUTPUT": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "deploy.run_all", "mlp"],
        env=bare_environment() | wanted,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(tmp_path.glob("mlp-*/manifest.json"))) == 1
    assert re.search(r"  mlp +finished \(exit 0\)", done.stdout)
    assert {file.name for file in tmp_path.glob("summary.*")} == {"summary.html", "summary.txt", "summary.csv"}
    assert "== all models" in done.stdout


# ---- make k8s ----


def test_a_job_for_one_model() -> None:
    text = render.render("me/job:1", {"MODEL": "resnet18_pretrained", "OUTPUT": "s3://b/r", "MAX_EVALS": "40"}, ())
    assert "  name: image-classification-resnet18-pretrained\n" in text
    assert "          image: me/job:1\n" in text
    pairs = dict(re.findall(r'- name: ([A-Z_]+)\n\s+value: (".*")\n', text))
    assert {name: json.loads(value) for name, value in pairs.items()} == {
        "LOG_FORMAT": "json",
        "MAX_HOURS": "5.5",
        "MODEL": "resnet18_pretrained",
        "OUTPUT": "s3://b/r",
        "MAX_EVALS": "40",
    }


@pytest.mark.parametrize("name", ["job.yaml", "all-models.yaml", "rayjob.yaml"])
def test_a_run_ends_by_itself_before_its_deadline(name: str) -> None:
    """With half an hour left for what the job does not see: pulling the image, and the time between two attempts."""
    text = (ROOT / "deploy" / "kubernetes" / name).read_text()
    found = re.search(r'MAX_HOURS(?: #.*\n\s*value)?: "([0-9.]+)"', text)
    deadline = re.search(r"activeDeadlineSeconds: (\d+)", text)
    assert found is not None
    assert deadline is not None
    assert 3600 * float(found[1]) == int(deadline[1]) - 1800


def test_an_indexed_job_for_all_models() -> None:
    text = render.render("me/job:1", {"MODEL": "all", "OUTPUT": "/outputs"}, ("cnn", "vit"))
    assert '- name: MODELS\n              value: "cnn,vit"\n' in text
    assert "- name: MODEL\n" not in text
    assert re.search(r"completions: 2\n  parallelism: 2 .*\n  backoffLimitPerIndex: 4 .*\n  maxFailedIndexes: 2 ", text)


SECRETS = ("https://me:not-to-be-shown@host/a", "https://host/a?X-Amz-Signature=not-to-be-shown")


@pytest.mark.parametrize("value", SECRETS)
@pytest.mark.parametrize("name", ["DATA_URL", "MLFLOW_TRACKING_URI", "PRETRAINED_WEIGHTS", "INPUT"])
def test_no_secret_goes_into_a_file(name: str, value: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused with the variable's name, and the value is not repeated."""
    given = {"OUTPUT": "s3://b/r", name: value}
    for write in (
        lambda: render.render("i", given, ()),
        lambda: kaggle.write(tmp_path, given, {"KAGGLE_USERNAME": "me"}),
    ):
        with pytest.raises(WrongSetting):
            write()
        said = capsys.readouterr().err
        assert name in said
        assert "not-to-be-shown" not in said
    assert not list(tmp_path.iterdir())


def test_paths_of_this_machine_stay_here(tmp_path: Path) -> None:
    paths = {"DATA_DIR": "./birds", "PRETRAINED_WEIGHTS": "/home/me/w.pth", "GITHUB_STEP_SUMMARY": "/tmp/summary.md"}
    text = render.render("i", {"OUTPUT": "s3://b/r", **paths}, ())
    kaggle.write(tmp_path, {"MODEL": "cnn", **paths}, {"KAGGLE_USERNAME": "me"})
    script = (tmp_path / "train.py").read_text()
    settings = script[script.index("SETTINGS:") : script.index("NEEDED:")]
    for name, value in paths.items():
        assert value not in text
        assert name not in settings


def test_an_output_that_is_a_folder_gets_its_volume() -> None:
    text = render.render("i", {"OUTPUT": "/results"}, ())
    assert "- name: output\n              mountPath: /results\n" in text
    assert "claimName: image-classification-output" in text
    assert "claimName" not in render.render("i", {"OUTPUT": "s3://b/r"}, ())


@pytest.mark.parametrize("given", [{"OUTPUT": "s3://b"}, {"MODEL": "cnn", "OUTPUT": "outputs"}, {"MODEL": "cnn"}])
def test_a_job_needs_a_lasting_output(given: dict[str, str]) -> None:
    if given == {"OUTPUT": "s3://b"}:
        assert "image-classification-cnn" in render.render("i", given, ())
        return
    with pytest.raises(WrongSetting):
        render.render("i", given, ())


@pytest.mark.parametrize("file", ["job.yaml", "all-models.yaml"])
def test_the_manifests_keep_their_promises(file: str) -> None:
    text = (ROOT / "deploy/kubernetes" / file).read_text()
    for promise in (
        "restartPolicy: Never",
        "podReplacementPolicy: Failed",
        "values: [65, 78]",
        'type: DisruptionTarget\n            status: "True"',
        "ttlSecondsAfterFinished:",
        "activeDeadlineSeconds:",
        "terminationGracePeriodSeconds:",
        "terminationMessagePolicy: FallbackToLogsOnError",
        "runAsNonRoot: true",
        "readOnlyRootFilesystem: true",
        "drop: [ALL]",
        "type: RuntimeDefault",
        "nvidia.com/gpu: 1",
    ):
        assert promise in text, promise
    assert text.count("# ---- EDIT ----") == 1
    assert ("backoffLimitPerIndex" in text) == (file == "all-models.yaml")


# ---- the commands for AWS, against the service descriptions that the AWS command line itself is made from ----


def input_of(service: str, command: str) -> Shape:
    """The shape of what `aws SERVICE COMMAND` sends."""
    model = Session().get_service_model(service)
    (name,) = (name for name in model.operation_names if xform_name(name, "-") == command)
    return model.operation_model(name).input_shape


def value_of(text: str, shape: Shape) -> Any:
    """What the command line makes of an argument in its shorthand (key=value,key=value), as far as the pages use it."""
    if shape.type_name == "boolean":
        return True
    if shape.type_name in ("integer", "long"):
        return int(text)
    if shape.type_name == "map":
        return dict(pair.split("=", 1) for pair in text.split(","))
    if shape.type_name == "structure":
        pairs = [text.split("=", 1)] if "[" in text else [pair.split("=", 1) for pair in text.split(",")]
        return {key: value_of(value, shape.members[key]) for key, value in pairs}
    if shape.type_name == "list":
        return [value_of(part, shape.member) for part in re.findall(r"\{(.*?)\}", text)]
    return text


def aws_commands(page: str) -> Iterator[list[str]]:
    text = (ROOT / "deploy" / page).read_text().replace("\\\n", " ")
    for line in re.findall(r"^aws .*", text, re.MULTILINE):
        yield shlex.split(line)


@pytest.mark.parametrize(("page", "count"), [("aws-batch.md", 4), ("sagemaker/README.md", 2)])
def test_the_commands_for_aws_are_such_as_it_takes(page: str, count: int) -> None:
    commands = list(aws_commands(page))
    assert len(commands) == count
    for _, service, command, *arguments in commands:
        shape = input_of(service, command)
        flags = {f"--{xform_name(name, '-')}": name for name in shape.members}
        given: dict[str, Any] = {}
        for flag, value in zip(arguments, [*arguments[1:], ""], strict=True):
            if flag in flags:
                given[flags[flag]] = value_of(value, shape.members[flags[flag]])
            elif flag == "--cli-input-json":
                text = (ROOT / "deploy" / page).read_text()
                given |= json.loads(re.findall(r"<<'JSON'\n(.*?)\nJSON", text, re.DOTALL)[0])
            else:
                assert not flag.startswith("--") or flag == "--query", f"{service} {command} has no {flag}"
        assert ParamValidator().validate(given, shape).generate_report() == "", f"{service} {command}"


def test_aws_batch_retries_what_a_retry_mends_and_nothing_else() -> None:
    """Its rules, read as AWS reads them: in order, the first whose conditions all fit."""
    text = (ROOT / "deploy/aws-batch.md").read_text()
    definition = json.loads(re.findall(r"<<'JSON'\n(.*?)\nJSON", text, re.DOTALL)[0])
    rules = definition["retryStrategy"]["evaluateOnExit"]

    def action(code: str, status: str = "Essential container in task exited", reason: str = "") -> str:
        said = {"onExitCode": code, "onStatusReason": status, "onReason": reason}
        fits = [all(fnmatch(said[key], rule[key]) for key in said if key in rule) for rule in rules]
        return str(rules[fits.index(True)]["action"])

    assert [action(code) for code in ("75", "143", "78", "65", "1")] == ["RETRY", "RETRY", "EXIT", "EXIT", "EXIT"]
    assert action("", "Host EC2 (instance i-0123) terminated.") == "RETRY"
    writable = {mount["containerPath"] for mount in definition["containerProperties"]["linuxParameters"]["tmpfs"]}
    assert writable == {"/tmp", "/data"}


@pytest.mark.parametrize(
    "place", ["deploy/kubernetes/s3.env.example", "docs/configuration.md", "docs/troubleshooting.md"]
)
def test_the_regions_variable_is_the_one_that_a_message_names(place: str) -> None:
    assert re.search(r"\bAWS_REGION\b", (ROOT / place).read_text())


# ---- SageMaker ----


@pytest.fixture
def ml(tmp_path: Path) -> Path:
    for folder in ("model", "output/data"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def train(ml: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    places = {"SM_MODEL_DIR": ml / "model", "SM_OUTPUT_DATA_DIR": ml / "output/data", "OUTPUT": ml / "output/data"}
    return subprocess.run(
        [sys.executable, ROOT / "deploy/sagemaker/train.py", ml / "output/failure"],
        env=bare_environment() | {name: str(place) for name, place in places.items()} | variables,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_sagemaker_gets_the_model_where_it_wants_it(ml: Path) -> None:
    done = train(ml, **TINY, LEARNING_RATE="0.001", EPOCHS="1")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (ml / "output/data").iterdir()
    assert (ml / "model/weights.pt").read_bytes() == (run / "weights.pt").read_bytes()
    assert not (ml / "output/failure").exists()


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_sagemaker_is_told_why_a_job_failed(ml: Path, log_format: str) -> None:
    done = train(ml, MODEL="resnet19", LOG_FORMAT=log_format)
    assert done.returncode == 78
    reason = (ml / "output/failure").read_text()
    assert reason.startswith("exit code 78\n")
    assert "did you mean resnet18?" in reason
    assert len(reason) <= 1024
