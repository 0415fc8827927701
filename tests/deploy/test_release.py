"""`make release`: which commit is a version, and what a parts list is made of."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import installed, release
from tests.conftest import ROOT


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A commit of version 1.2.3."""
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    monkeypatch.setattr(release, "ROOT", tmp_path)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=me", "-c", "user.email=me@example.com", "commit", "-qm", "one")
    return tmp_path


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, check=True)


def test_a_release_is_a_commit_with_its_version_as_tag(repository: Path) -> None:
    with pytest.raises(release.Refused, match=r"no version's tag. To release it as 1\.2\.3: git tag v1\.2\.3"):
        release.version_here()
    git(repository, "tag", "v1.2.4")
    with pytest.raises(release.Refused, match=r"the tag says v1\.2\.4 and pyproject\.toml 1\.2\.3"):
        release.version_here()
    git(repository, "tag", "-d", "v1.2.4")
    git(repository, "tag", "v1.2.3")
    assert release.version_here() == "1.2.3"
    (repository / "new").write_text("")
    with pytest.raises(release.Refused, match="changes that no commit has: new"):
        release.version_here()


def test_what_is_installed_is_told_with_its_licence() -> None:
    found = {each["name"]: each for each in installed.python()}
    assert found["torch"]["version"]
    assert "BSD" in found["torch"]["licence"] or "Apache" in found["torch"]["licence"]
    assert len(found) > 50
    alone = [sys.executable, str(ROOT / "deploy" / "installed.py"), "python"]
    told = json.loads(subprocess.run(alone, check=True, capture_output=True, text=True).stdout)
    assert not told["debian"]
    assert {each["name"] for each in told["python"]} == set(found)


def test_a_parts_list_fits_the_standard(tmp_path: Path) -> None:
    """By the library's own strict validation, against CycloneDX's schema."""
    pytest.importorskip("cyclonedx", reason="it is in the venv of make lint-deploy")
    from deploy import parts_list

    found = {
        "python": [{"name": "a", "version": "1", "licence": "MIT"}, {"name": "b", "version": "2", "licence": ""}],
        "debian": [{"name": "libc6", "version": "2.36-9+deb12u14", "architecture": "amd64"}],
        "distribution": "debian",
    }
    assert "no licence stated by b" in parts_list.write("job", "1.2.3", found, tmp_path)
    bill = json.loads((tmp_path / parts_list.BOM).read_text())
    assert {part["purl"] for part in bill["components"]} == {
        "pkg:pypi/a@1",
        "pkg:pypi/b@2",
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14?arch=amd64",
    }
    assert (tmp_path / parts_list.LICENCES).read_text().splitlines()[1:3] == ["python,a,1,MIT", "python,b,2,not stated"]
