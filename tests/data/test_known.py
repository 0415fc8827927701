"""Files that are known by their state are not read again; whatever could have changed is."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from job.data import cache, folder, known
from job.data.known import KeptBy, contents
from job.data.picture import SMALL
from tests.helpers.folders import picture, pictures, quiet

MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw
22 21 0:5 / /data rw master:2 - fuse.s3fs s3fs rw
23 22 8:2 / /data/of\\040mine rw - xfs /dev/sdb rw
"""


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, as if all file systems could be believed."""
    names: list[str] = []
    real = known.content_of
    monkeypatch.setattr(known, "content_of", lambda file: names.append(file.name) or real(file))
    monkeypatch.setattr(KeptBy, "by_kernel", lambda self, file, device: True)
    monkeypatch.setattr(known, "RESTED", 0)
    return names


def test_a_second_start_reads_no_file(tmp_path: Path, read: list[str]) -> None:
    root = pictures(tmp_path / "x", "train/a/1.png", "train/b/2.png", "test/a/3.png", "test/b/4.png")
    time.sleep(0.05)  # a tick of the kernel's clock and more
    first = folder.load(root, bar=quiet)
    assert sorted(read) == ["1.png", "2.png", "3.png", "4.png"]
    read.clear()
    again = folder.load(root, bar=quiet)
    assert read == []
    assert (again.train_images == first.train_images).all()
    (root / "test/b/4.png").rename(root / "test/b/5.png")  # which changes its state, not its content
    picture(root / "train/a/6.png", 9)
    folder.load(root, bar=quiet)
    assert sorted(read) == ["5.png", "6.png"]


def test_whatever_may_have_changed_is_read(tmp_path: Path, read: list[str]) -> None:
    """Written anew with size and time kept, in place and by another file; its time alone set back."""
    file = tmp_path / "1.png"
    file.write_bytes(b"one")
    os.utime(file, ns=(10**18, 10**18))
    time.sleep(0.05)
    found, noted = contents([file], {}, quiet)
    assert len(noted) == 1
    assert contents([file], noted, quiet)[0] == found
    assert read == ["1.png"]
    file.write_bytes(b"two")
    os.utime(file, ns=(10**18, 10**18))
    assert contents([file], noted, quiet)[0] != found
    time.sleep(0.05)
    _, noted = contents([file], {}, quiet)
    other = tmp_path / "other"
    other.write_bytes(b"new")
    os.utime(other, ns=(10**18, 10**18))
    time.sleep(0.05)
    other.replace(file)
    read.clear()
    assert contents([file], noted, quiet)[0] != found
    assert read == ["1.png"]


def test_what_was_not_at_rest_is_not_noted(tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "RESTED", 60 * 10**9)
    file = tmp_path / "1.png"
    file.write_bytes(b"one")
    assert contents([file], {}, quiet)[1] == {}
    (tmp_path / "gone").symlink_to("nowhere")
    assert contents([tmp_path / "gone"], {}, quiet) == ({tmp_path / "gone": ""}, {})


def test_only_the_kernels_own_file_systems_are_believed(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    for file, believed in (("/home/x.png", True), ("/data/x.png", False), ("/data/of mine/x.png", True)):
        assert KeptBy(mounts).by_kernel(Path(file), 1) is believed, file
    assert not KeptBy(tmp_path / "none").by_kernel(Path("/home/x.png"), 1), "nothing is known of it"


def test_what_the_cache_has_noted_comes_back(tmp_path: Path) -> None:
    noted = {(1, 2, 3, -4, 2**62): "ab" * 32, (1, 2, 3, 4, 5): "0f" * 32}
    assert known.known_from(known.noted(noted).tobytes()) == noted
    assert known.known_from(known.noted({}).tobytes()) == {}
    assert cache.known(tmp_path / "none", tmp_path) == {}
    assert len(cache.places(tmp_path, SMALL)) == 3
