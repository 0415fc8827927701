"""The three data sets: what is read, what is refused, what is reduced."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10

from job import data
from job.console.progress import Progress
from job.data import Dataset, Wanted, cifar10, decoding, remade, synthetic
from job.data.draws import stratified
from job.data.folder import Rules
from job.data.picture import SMALL, Shape
from job.errors import Fault, TemporaryFault
from tests.data.test_download import no_s3
from tests.helpers.mirror import mirror

BAR = Progress("off").bar


# --- CIFAR-10: small files in the published format, with their own checksums ---


def batch(count: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    content = {
        b"data": rng.integers(0, 256, (count, 3072), dtype=np.uint8),
        b"labels": rng.integers(0, 10, count).tolist(),
    }
    return pickle.dumps(content)


@pytest.fixture(scope="session")
def published() -> dict[str, bytes]:
    """The seven files, 20 images each."""
    files = {name: batch(20, seed) for seed, name in enumerate((*cifar10.TRAIN_FILES, *cifar10.TEST_FILES))}
    names = [f"class {n}".encode() for n in range(10)]
    return files | {cifar10.META: pickle.dumps({b"label_names": names})}


@pytest.fixture(scope="session")
def archive(published: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in published.items():
            member = tarfile.TarInfo(f"{cifar10.FOLDER}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return out.getvalue()


def load_cifar10(directory: Path, published: dict[str, bytes], archive: bytes, *urls: str, **more: Path) -> data.Arrays:
    files = {name: hashlib.md5(content).hexdigest() for name, content in published.items()}
    sums = cifar10.Checksums(hashlib.md5(archive).hexdigest(), len(archive), files)
    return cifar10.load(directory, cifar10.Sources(urls or ("http://127.0.0.1:9/never",), **more), BAR, no_s3, sums)


def unpack(published: dict[str, bytes], directory: Path) -> None:
    (directory / cifar10.FOLDER).mkdir(parents=True)
    for name, content in published.items():
        (directory / cifar10.FOLDER / name).write_bytes(content)


def test_checksums_are_torchvisions() -> None:
    assert CIFAR10.tgz_md5 == cifar10.ARCHIVE_MD5
    listed = dict(CIFAR10.train_list + CIFAR10.test_list) | {CIFAR10.meta["filename"]: CIFAR10.meta["md5"]}
    assert listed == cifar10.FILE_MD5


def test_download_then_from_disk(tmp_path: Path, published: dict[str, bytes], archive: bytes) -> None:
    with mirror(archive) as (address, requests):
        first = load_cifar10(tmp_path, published, archive, f"{address}/wrong", f"{address}/good")
        second = load_cifar10(tmp_path, published, archive, f"{address}/good")
        assert requests == ["/wrong", "/good"], "the second time it is there already"
    assert first.train_images.shape == (100, 32, 32, 3)
    assert first.test_images.shape == (20, 32, 32, 3)
    assert first.classes[3] == "class 3"
    assert data.digest(first) == data.digest(second)


def test_the_pixels_lie_as_published(tmp_path: Path, published: dict[str, bytes], archive: bytes) -> None:
    """1024 red, then green, then blue values, each row by row (https://www.cs.toronto.edu/~kriz/cifar.html)."""
    unpack(published, tmp_path)
    arrays = load_cifar10(tmp_path, published, archive)
    third = pickle.loads(published["data_batch_3"])
    for row, column, colour in ((0, 0, 0), (5, 31, 1), (31, 7, 2)):
        assert arrays.train_images[41, row, column, colour] == third[b"data"][1, colour * 1024 + row * 32 + column]
    assert arrays.train_labels[40:60].tolist() == third[b"labels"]
    assert arrays.test_labels.tolist() == pickle.loads(published["test_batch"])[b"labels"]


def test_unpacked_files_are_used_only_when_their_checksums_hold(
    tmp_path: Path, published: dict[str, bytes], archive: bytes
) -> None:
    unpack(published, tmp_path)
    whole = load_cifar10(tmp_path, published, archive)
    assert whole.origin.endswith(cifar10.FOLDER)

    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.mkdir, (str(tmp_path / "unpickled without care"),))

    (tmp_path / cifar10.FOLDER / "data_batch_3").write_bytes(pickle.dumps(Planted()))
    with pytest.raises(TemporaryFault):
        load_cifar10(tmp_path, published, archive)
    assert not (tmp_path / "unpickled without care").exists()
    with mirror(archive) as (address, _):
        assert data.digest(load_cifar10(tmp_path, published, archive, f"{address}/good")) == data.digest(whole)


def test_a_broken_archive_on_disk_is_replaced(tmp_path: Path, published: dict[str, bytes], archive: bytes) -> None:
    (tmp_path / cifar10.ARCHIVE).write_bytes(archive[:1000])
    with mirror(archive) as (address, requests):
        load_cifar10(tmp_path, published, archive, f"{address}/good")
        assert requests == ["/good"]
    assert (tmp_path / cifar10.ARCHIVE).read_bytes() == archive


def test_a_copy_that_kaggle_mounts_is_found(tmp_path: Path, published: dict[str, bytes], archive: bytes) -> None:
    mounted = tmp_path / "input" / "some-dataset" / "files"
    unpack(published, mounted)
    (tmp_path / "input" / "other").mkdir()
    arrays = load_cifar10(tmp_path / "data", published, archive, kaggle_input=tmp_path / "input")
    assert arrays.origin == str(mounted / cifar10.FOLDER)
    assert not (tmp_path / "data").exists(), "nothing was fetched"


# --- drawn images ---


def test_synthetic_images() -> None:
    arrays = synthetic.draw(3407, 3000)
    assert arrays.train_images.shape == (3000, 32, 32, 3)
    assert arrays.train_images.dtype == np.uint8
    assert arrays.test_images.shape == (600, 32, 32, 3)
    assert np.bincount(arrays.train_labels).tolist() == [300] * 10
    assert data.digest(arrays) == data.digest(synthetic.draw(3407, 3000))
    assert data.digest(arrays) != data.digest(synthetic.draw(1, 3000))
    assert synthetic.draw(3407, None).train_images.shape == (50_000, 32, 32, 3)


def test_no_single_pixel_tells_the_class() -> None:
    """The class means are alike: what separates classes is structure, which is what makes the set worth training on."""
    arrays = synthetic.draw(0, 10_000)
    means = np.stack([arrays.train_images[arrays.train_labels == label].mean(axis=0) for label in range(10)])
    assert means.std(axis=0).max() < 4  # of 255


# --- all of them ---


def load(name: str, directory: Path, limit: int | None) -> Dataset:
    return data.load(data.Wanted(name, directory, limit, 3407), BAR, no_s3)


def test_a_limit_keeps_the_shares_of_the_classes() -> None:
    labels = np.repeat(np.arange(3), [600, 300, 100])
    rows = stratified(labels, 100, seed=1)
    assert np.bincount(labels[rows]).tolist() == [60, 30, 10]
    assert len(set(rows)) == 100
    assert np.array_equal(rows, stratified(labels, 100, seed=1))
    assert not np.array_equal(rows, stratified(labels, 100, seed=2))


@pytest.mark.parametrize("count", [3, 4, 7, 50, 999, 1000, 5000])
def test_a_limit_is_met_exactly(count: int) -> None:
    labels = np.repeat(np.arange(3), [900, 98, 2])
    rows = stratified(labels, count, seed=1)
    assert len(rows) == min(count, 1000)
    assert set(labels[rows]) == {0, 1, 2}, "no class is lost"


def test_a_limited_folder(tree: Path) -> None:
    limited = load("folder", tree, 4)
    assert torch.bincount(limited.train.labels).tolist() == [2, 2]
    assert torch.bincount(limited.test.labels).tolist() == [1, 1]
    assert load("folder", tree, 100).sha256 == load("folder", tree, None).sha256


def test_a_limit_below_the_classes(tree: Path) -> None:
    with pytest.raises(Fault, match="DATA_LIMIT=1 leaves less than one image for each of the 2 classes"):
        load("folder", tree, 1)


def test_the_test_set_shrinks_alike() -> None:
    drawn = load("synthetic", Path(), 500)
    assert (len(drawn.train), len(drawn.test)) == (500, 100)
    assert drawn.train.images.dtype == torch.uint8


def test_each_test_image_is_found_by_its_name(tree: Path) -> None:
    """Decoded and from the cache, whole and reduced: the file of that name holds that very image."""
    (tree / "test" / "dogs" / "0.png").rename(tree / "test" / "dogs" / os.fsdecode(b"\xff, 1.png"))
    odd = r"test/dogs/\xff, 1.png"  # as the name is spelled where only UTF-8 can be written
    first = load("folder", tree, None)
    assert sorted(first.test_names) == ["test/cats/0.png", "test/cats/1.jpg", "test/dogs/1.jpg", odd]
    assert load("folder", tree, None).test_names == first.test_names, "from the cache"
    limited = load("folder", tree, 4)
    assert len(limited.test_names) == len(limited.test) == 2
    assert all(np.array_equal(image, decoded(tree, name)) for name, image in zip(*named(first), strict=True))
    assert all(np.array_equal(image, decoded(tree, name)) for name, image in zip(*named(limited), strict=True))


def named(dataset: Dataset) -> tuple[tuple[str, ...], np.ndarray]:
    return dataset.test_names, dataset.test.images.numpy()


def decoded(tree: Path, name: str) -> np.ndarray:
    place = os.fsencode(tree / name).replace(rb"\xff", b"\xff")
    read = decoding.read_image(Path(os.fsdecode(place)), SMALL)
    assert not isinstance(read, str)
    return read.pixels


def test_an_image_without_a_file_is_found_by_its_number(tmp_path: Path) -> None:
    """Its number in the whole test set, whatever a limit leaves of it."""
    arrays = synthetic.draw(3407, 500)
    assert arrays.names() == tuple(map(str, range(100)))
    reduced = data.reduced(arrays, 100, 1, tmp_path)
    assert len(reduced.names()) == len(reduced.test_labels) == 20
    for name, image in zip(reduced.names(), reduced.test_images, strict=True):
        assert np.array_equal(image, arrays.test_images[int(name)])


def test_images_that_memory_would_not_hold_are_put_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of a set, and one that is scaled: the same images, mapped from a file that nobody sees."""
    wanted = Wanted("synthetic", tmp_path, 50, 1, rules=Rules(shape=Shape(64)))
    first = data.load(wanted, BAR, no_s3)
    arrays = synthetic.draw(3407, 500)
    part = data.reduced(arrays, 100, 1, tmp_path)
    assert (first.mapping, part.mapping) == (None, None)
    monkeypatch.setattr(remade, "free_on_host", lambda: 1000)
    kept, other = data.load(wanted, BAR, no_s3), data.reduced(arrays, 100, 1, tmp_path)
    assert kept.mapping is not None
    assert other.mapping is not None
    assert kept.sha256 == first.sha256
    assert data.digest(other) == data.digest(part)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(remade, "free", lambda place: 0)
    assert data.load(wanted, BAR, no_s3).sha256 == first.sha256, "in memory, come what may"
