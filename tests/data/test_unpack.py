"""Archives of strangers: what is in them, and nothing outside of where it shall be."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from job.data import unpack
from job.errors import Fault, TemporaryFault
from tests.conftest import ROOT
from tests.helpers.folders import quiet

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {"train/a/1.png": os.urandom(3000), "train/b/\u00fc \u732b.png": b"two", "empty": b""}


def zipped(files: dict[str, bytes], **kinds: int) -> bytes:
    """`kinds`: name to the mode that Unix gave it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("train/", b"")
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = kinds.get(name, stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            made.writestr(info, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w", **kinds: bytes) -> bytes:
    """`kinds`: name to the type of tar's."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as made:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if name in kinds:
                info.type, info.linkname, info.size = kinds[name], "/etc/passwd", 0
            made.addfile(info, io.BytesIO(content))
    return out.getvalue()


def unpacked(content: bytes, place: Path) -> dict[str, bytes]:
    (place / "archive").write_bytes(content)
    into = place / "deep" / "into"
    into.mkdir(parents=True)
    unpack.unpack(place / "archive", "birds.zip", into, quiet)
    return {str(file.relative_to(into)): file.read_bytes() for file in into.rglob("*") if file.is_file()}


KINDS: dict[str, Callable[[dict[str, bytes]], bytes]] = {
    "zip": zipped,
    "tar": tarred,
    "tar.gz": lambda files: tarred(files, "w:gz"),
    "tar.zst": lambda files: zstd.compress(tarred(files)),
    "gnu tar": lambda files: tarred({f"./{name}": content for name, content in files.items()}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_everything_is_there(kind: str, tmp_path: Path) -> None:
    content = KINDS[kind](FILES)
    assert unpacked(content, tmp_path) == FILES
    assert unpack.format_of(content[:512], "x") == kind.removeprefix("gnu ")


def test_windows_separators(tmp_path: Path) -> None:
    content = zipped({"train/a/1.png": b"x"}).replace(b"train/a/1.png", b"train\\a\\1.png")
    assert unpacked(content, tmp_path) == {"train/a/1.png": b"x"}


def encrypted() -> bytes:
    content = bytearray(zipped({"a": b"x"}))
    for at in (content.index(b"PK\x03\x04", 4) + 6, content.rindex(b"PK\x01\x02") + 8):
        content[at] |= 1
    return bytes(content)


def flipped(content: bytes) -> bytes:
    at = content.index(FILES["train/a/1.png"][1000:1010])
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


def in_frames(content: bytes) -> bytes:
    """As pzstd packs it: one frame after the other."""
    return b"".join(zstd.compress(content[start : start + 2**18]) for start in range(0, len(content), 2**18))


def holed() -> bytes:
    """A file of three megabytes of which a tar holds nothing (GNU tar's old way: header, offsets and lengths)."""
    head = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT)[:512])
    head[156:157] = tarfile.GNUTYPE_SPARSE
    head[386:410] = b"%011o\0%011o\0" % (3_000_000, 0)  # one piece, empty, at the end
    head[483:495] = b"%011o\0" % 3_000_000
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return bytes(head) + bytes(1024)


# A frame whose header asks for a window of 2 GiB (RFC 8878, 3.1.1.1.2: exponent 21), and an empty last block.
WIDE = b"\x28\xb5\x2f\xfd\x00" + bytes([21 << 3]) + b"\x01\x00\x00" + bytes(600)
MANY = {str(number): b"" for number in range(20)}
BAD = {
    "dots": (zipped({"../evil": b"x"}), r"has \.\./evil, which lies outside of it"),
    "dots in a tar": (tarred({"a/../../evil": b"x"}), r"has a/\.\./\.\./evil, which lies outside of it"),
    "windows dots": (zipped({"..\\evil": b"x"}), "which lies outside of it"),
    "absolute": (tarred({"/tmp/evil": b"x"}), "has /tmp/evil, which lies outside of it"),
    "a link": (zipped({"a": b"/etc/passwd"}, a=stat.S_IFLNK | 0o777), "has a, which is a link"),
    "a link in a tar": (tarred({"a": b""}, a=tarfile.SYMTYPE), "has a, which is a link"),
    "a hard link": (tarred({"a": b""}, a=tarfile.LNKTYPE), "has a, which is a link"),
    "a pipe": (tarred({"a": b""}, a=tarfile.FIFOTYPE), "has a, which is no file"),
    "a device": (tarred({"a": b""}, a=tarfile.CHRTYPE), "has a, which is no file"),
    "a password": (encrypted(), "is encrypted"),
    "twice": (tarred({"a": b"x", "./a": b"y"}), r"has \./a twice"),
    "a file that is a folder": (tarred({"a": b"x", "a/b": b"y"}), "has a/b twice"),
    "a zip bomb": (zipped({"a": bytes(3_000_000)}), "is a bomb: it becomes more than 100 times its size"),
    "a tar bomb": (tarred({"a": bytes(3_000_000)}, "w:gz"), "is a bomb"),
    "a tar.zst bomb": (zstd.compress(tarred({"a": bytes(3_000_000)})), "is a bomb"),
    "a tar.zst bomb in frames": (in_frames(tarred({"a": bytes(3_000_000)})), "is a bomb"),
    "a bomb of names in a tar.zst": (zstd.compress(tarred({"n" * 2_000_000: b"x"})), "is a bomb"),
    "dots in a tar.zst": (zstd.compress(tarred({"../evil": b"x"})), r"has \.\./evil, which lies outside of it"),
    "a link in a tar.zst": (zstd.compress(tarred({"a": b""}, a=tarfile.SYMTYPE)), "has a, which is a link"),
    "a bomb of names": (gzip.compress(tarred({"n" * 2_000_000: b"x"})), "is a bomb"),
    "a file of holes": (holed(), "is a bomb"),
    "many files": (tarred(MANY), "is a bomb"),
    "many files in a zip": (zipped(MANY), "is a bomb"),
    "a flipped bit": (flipped(zipped(FILES)), "is damaged"),
    "half a zip": (zipped(FILES)[:2000], "is damaged"),
    "half a tar": (tarred(FILES)[:2000], "is damaged"),
    "half a tar.gz": (tarred(FILES, "w:gz")[:2000], "is damaged"),
    "half a tar.zst": (zstd.compress(tarred(FILES))[:2000], "is damaged"),
    "a tar.zst with other bytes": (b"\x28\xb5\x2f\xfd" + bytes(600), "is damaged"),
    "a tar.zst that wants two gigabytes": (WIDE, "wants more than 128 MiB of memory"),
    "zstd of no tar": (zstd.compress(bytes(range(256)) * 9), "is damaged"),
    "bzip2": (tarred(FILES, "w:bz2"), "is no zip, tar, tar.gz or tar.zst, but bzip2"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(600), "is no zip, tar, tar.gz or tar.zst, but something else"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_to_be_trusted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "ALWAYS", 1_000_000)
    monkeypatch.setattr(unpack, "MOST_FILES", 19)
    content, told = BAD[name]
    with pytest.raises(Fault, match=told) as caught:
        unpacked(content, tmp_path)
    assert caught.value.exit_code == 78
    assert "birds.zip" in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"archive", "deep"}
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"into"}


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told beforehand where the archive says what it takes, and else when it is met."""
    few = TemporaryFault("DATA_DIR: no room")
    asked = []

    def lacking(variable: str, directory: Path, needed: int) -> TemporaryFault:
        asked.append(needed)
        return few

    monkeypatch.setattr(unpack, "lacking", lacking)
    with pytest.raises(TemporaryFault, match="no room"):
        unpacked(zipped(FILES), tmp_path)
    assert asked == [sum(map(len, FILES.values()))]


def test_zstd_is_needed_for_its_own_archives_alone(tmp_path: Path) -> None:
    """A platform's own Python may lack it."""
    lacks = "import sys; sys.modules['backports'] = sys.modules['compression'] = None\n"
    code = (
        lacks
        + "from job.data import unpack\ntry: unpack.of_zstd(None, 'birds')\nexcept unpack.Fault as fault: print(fault)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "DATA_URL: birds is packed by zstd, for which backports.zstd is not installed." in said
