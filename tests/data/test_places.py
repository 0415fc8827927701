"""Which place images are given, and what of them is in memory then."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from job.data import places
from job.data.places import DEVICE, DISK, HOST
from job.data.split import split_of
from job.device import Compute, cgroup, memory
from job.device.feed import Feed
from job.device.mapping import Mapping
from job.preflight import machine
from job.preflight.data import Counts
from job.settings import Settings
from tests.modes.test_check import put

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GB = 10**9


@pytest.mark.parametrize(
    ("images", "device", "kept", "expected", "words"),
    [
        (3, CPU, True, DEVICE, "3.0 GB of images in memory: 8.0 GB of memory free"),
        (5, CPU, True, DISK, "5.0 GB of images on the disk, read batch by batch: 8.0 GB of memory free"),
        (5, CPU, False, DEVICE, "5.0 GB of images in memory: 8.0 GB of memory free"),
        (1, GPU, True, DEVICE, "1.0 GB of images on the GPU: 2.0 GB free on the GPU, 8.0 GB on the host"),
        (3, GPU, True, HOST, "3.0 GB of images in the host's memory, copied batch by batch: 2.0 GB free on the GPU"),
        (5, GPU, True, DISK, "5.0 GB of images on the disk, read batch by batch: 2.0 GB free on the GPU"),
        (5, GPU, False, HOST, "5.0 GB of images in the host's memory, copied batch by batch: 2.0 GB free on the GPU"),
    ],
)
def test_memory_decides(
    images: int, device: torch.device, kept: bool, expected: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "free_memory", lambda where: 2 * GB)
    monkeypatch.setattr(places, "free_on_host", lambda: 8 * GB)
    place = places.choose(images * GB, device, kept=kept)
    assert place.name == expected
    assert place.words().startswith(words)


def test_a_containers_limit_counts_but_files_kept_in_memory_do_not(tmp_path: Path) -> None:
    """Version 2 and 1 of control groups; the group above has the limit."""
    put(tmp_path, proc__meminfo="MemTotal: 9 kB\nMemFree: 7 kB\nMemAvailable: 8000000 kB")
    assert cgroup.free_memory(tmp_path) is None
    assert memory.free_on_host(tmp_path) == 8_192_000_000
    put(tmp_path, proc__self__cgroup="0::/pod/box")
    two = tmp_path / "sys/fs/cgroup"
    put(two / "pod/box", memory_DOT_max="max", memory_DOT_current="1", memory_DOT_stat="anon 1")
    stat = "anon 700000000\nfile 900000000\nactive_file 300000000\ninactive_file 600000000\nslab 5"
    put(two / "pod", memory_DOT_max="2000000000", memory_DOT_current="1600000000", memory_DOT_stat=stat)
    assert memory.free_on_host(tmp_path) == 1_300_000_000
    one = tmp_path / "one"
    put(one, proc__self__cgroup="4:memory:/box", proc__meminfo="MemAvailable: 8000000 kB")
    put(
        one / "sys/fs/cgroup/memory",
        memory_DOT_limit_in_bytes="3000000000",
        memory_DOT_usage_in_bytes="2500000000",
        memory_DOT_stat="cache 1\ntotal_active_file 100000000\ntotal_inactive_file 400000000",
    )
    assert memory.free_on_host(one) == 1_000_000_000
    put(one / "sys/fs/cgroup/memory", memory_DOT_limit_in_bytes="9223372036854771712")
    assert memory.free_on_host(one) == 8_192_000_000


def resident() -> int:
    """Bytes of this process that are in memory, files mapped into it as well (proc(5))."""
    found = re.search(r"VmRSS:\s*(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="SKIPPED, NOT TESTED: no /proc tells what is resident"
)
def test_the_whole_set_is_never_in_memory_where_it_is_on_the_disk(tmp_path: Path) -> None:
    """Half a gigabyte, of which batches of nine megabytes are read."""
    file, count = tmp_path / "images", 3400
    with file.open("wb") as opened:
        opened.truncate(count * 224 * 224 * 3)
    with file.open("rb") as opened:
        mapping = Mapping(opened, (count, 224, 224, 3))
    split = split_of(mapping.array, np.zeros(count, np.int64))
    size, before, most = split.images.nbytes, resident(), 0
    for images in split.fed(Feed(CPU, mapping)).batches(torch.randperm(count), [64] * 53 + [8]):
        most = max(most, resident() - before)
        assert not images.any()
    assert most < size / 5


@pytest.mark.parametrize(
    ("of", "expected", "needed"),
    [
        ({"dataset": "cifar10"}, DEVICE, 3 * 3072 * 60_000),  # as it was loaded: no file holds it
        ({"dataset": "cifar10", "image_size": 224}, DISK, 0),  # remade, in a nameless file
        ({"dataset": "cifar10", "data_limit": 4000}, DISK, 0),
        ({"dataset": "cifar10", "data_limit": 50_000}, DEVICE, 3 * 3072 * 60_000),  # which is all of them
        ({"dataset": "synthetic", "data_limit": 4000}, DEVICE, 3 * 3072 * 60_000),  # no more are drawn
        ({"dataset": "folder", "learning_rate": 0.1, "epochs": 1}, DISK, 0),
    ],
)
def test_a_check_names_the_place_that_a_run_takes(
    of: dict[str, object], expected: str, needed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "free_memory", lambda where: 1_000_000)
    monkeypatch.setattr(places, "free_on_host", lambda: 1_000_000)
    compute = Compute(torch.device("cpu"), "fp32", "", "")
    held, (found,) = machine.place(Settings.model_validate(of), compute, Counts(50_000, 10_000, 10))
    assert held == needed
    assert {DEVICE: "in memory", DISK: "on the disk"}[expected] in found.detail
