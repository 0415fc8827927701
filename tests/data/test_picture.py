"""Every kind of image, decoded to what a person sees."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from job.data.picture import BORDER, MOST_PIXELS, SMALL, Shape, rgb
from job.data.picture import decoded as picture

SHADES = np.linspace(0, 255, 32 * 32, dtype=np.uint8).reshape(32, 32)


def stored(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def decoded(content: bytes, shape: Shape = SMALL) -> np.ndarray:
    return picture(content, shape).pixels


def grey(content: bytes) -> np.ndarray:
    pixels = decoded(content)
    assert pixels.shape == (32, 32, 3)
    return pixels.mean(axis=2)


def test_a_cameras_orientation_is_followed() -> None:
    photograph = Image.new("RGB", (32, 32), "black")
    photograph.paste("white", (0, 0, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: EXIF 2.3, table 4
    upright = decoded(stored(photograph, "PNG", exif=exif))
    assert upright[:, 31].min() > 250
    assert upright[:, 0].max() < 5


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "1 bit"])
def test_transparent_parts_are_white(mode: str) -> None:
    """Black on nothing is black on white, whatever the mode."""
    image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (8, 8, 24, 24))
    if mode == "P":
        flat = Image.new("P", (32, 32), 1)
        flat.paste(0, (8, 8, 24, 24))
        flat.putpalette([0, 0, 0, 90, 90, 90])
        content = stored(flat, "PNG", transparency=1)
    elif mode == "1 bit":
        content = stored(Image.new("L", (32, 32), 0), "PNG", transparency=0)
    else:
        content = stored(image.convert(mode), "PNG")
    pixels = grey(content)
    assert pixels[0, 0] == 255
    assert pixels[16, 16] == (255 if mode == "1 bit" else 0)


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        (SHADES.astype(np.uint16) * 257, "PNG", SHADES),
        (SHADES.astype(np.uint16), "PNG", SHADES),  # a scanner's bytes in words
        (SHADES.astype(np.int32) * 257, "TIFF", SHADES),
        (SHADES.astype(np.float32) / 255, "TIFF", SHADES),
        (SHADES.astype(np.float32), "TIFF", SHADES),
        (SHADES.astype(np.float32) * 1000 - 5000, "TIFF", SHADES),
    ],
)
def test_deep_and_floating_grey_by_its_range(values: np.ndarray, kind: str, expected: np.ndarray) -> None:
    assert np.abs(grey(stored(Image.fromarray(values), kind)) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
def test_kinds(kind: str) -> None:
    content = stored(Image.fromarray(SHADES), kind)
    assert np.abs(grey(content) - SHADES).max() < 12


def test_of_a_moving_image_the_first_frame() -> None:
    frames = [Image.new("L", (32, 32), shade) for shade in (10, 200)]
    assert grey(stored(frames[0], "GIF", save_all=True, append_images=frames[1:])).max() == 10


def test_print_colours() -> None:
    assert decoded(stored(Image.new("CMYK", (32, 32), (0, 255, 255, 0)), "JPEG"))[16, 16].tolist()[0] > 230


def test_a_jpeg_without_its_last_bytes_is_read() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((400, 300))
    whole = stored(image, "JPEG")
    assert not picture(whole).cut_off
    cut = whole[: -len(whole) // 50]
    assert picture(cut).cut_off
    assert np.abs(decoded(cut)[:28].astype(int) - decoded(whole)[:28]).max() <= 1
    with pytest.raises(ValueError, match="more than a tenth"):
        decoded(whole[: len(whole) // 2])


def test_a_large_text_is_no_reason_to_refuse_an_image() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("comment", "x" * 3_000_000, zip=True)
    assert np.array_equal(grey(stored(Image.fromarray(SHADES), "PNG", pnginfo=text)), SHADES)


def test_a_bomb_is_refused() -> None:
    """A PNG of a few bytes that says it is large: header alone, by the specification (PNG, section 11.2)."""

    side = int(MOST_PIXELS**0.5) + 10
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    with pytest.raises(ValueError, match="bomb"):
        decoded(bomb)


@pytest.mark.parametrize("content", [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\xff\xd8\xff"])
def test_what_is_no_image(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"not a readable image|an empty file|cut off"):
        decoded(content)


def test_what_of_a_wide_image_is_kept() -> None:
    """A red, a green and a blue third: the middle is cut out, or all is kept between borders, or pressed together."""
    wide = Image.new("RGB", (192, 64), "red")
    wide.paste("lime", (64, 0, 128, 64))
    wide.paste("blue", (128, 0, 192, 64))
    content = stored(wide, "PNG")
    cut = decoded(content, Shape(64, "crop"))
    assert (cut == (0, 255, 0)).all()
    padded = decoded(content, Shape(96, "pad"))
    assert (padded[:30] == BORDER).all()
    assert (padded[-30:] == BORDER).all()
    assert padded[48, 4].tolist() == [255, 0, 0]
    assert padded[48, 92].tolist() == [0, 0, 255]
    pressed = decoded(content, Shape(48, "squash"))
    assert pressed[24, 2].tolist() == [255, 0, 0]
    assert pressed[24, 45].tolist() == [0, 0, 255]


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
def test_a_large_jpeg_is_scaled_while_it_is_decoded(resize: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly the same as decoded whole, and only a part of its pixels are ever there."""
    rng = np.random.default_rng(0)
    large = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((1600, 1200))
    as_jpeg, as_png = stored(large, "JPEG", quality=95), stored(large, "PNG")
    sizes: list[tuple[int, int]] = []
    convert = Image.Image.convert

    def seen(image: Image.Image, *given: object, **more: object) -> Image.Image:
        sizes.append(image.size)
        return convert(image, *given, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "convert", seen)
    found = decoded(as_jpeg, Shape(96, resize)).astype(int)
    assert max(sizes) <= (400, 300)
    assert np.abs(found - decoded(as_png, Shape(96, resize))).mean() < 4


def with_exif(jpeg: bytes, note: bytes) -> bytes:
    """A JPEG with this in its APP1 segment (EXIF 2.3, section 4.5.4)."""
    return jpeg[:2] + b"\xff\xe1" + (len(note) + 8).to_bytes(2, "big") + b"Exif\0\0" + note + jpeg[2:]


@pytest.mark.parametrize(
    "note", [b"", b"garbage", b"II*\0\xff\xff\xff\xff", bytes(range(1, 200)), b"MM\0*\0\0\0\x08\0\x01"]
)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_note_of_the_camera_says_nothing_of_the_pixels(note: bytes) -> None:
    jpeg = stored(Image.fromarray(SHADES), "JPEG")
    assert np.array_equal(decoded(with_exif(jpeg, note)), decoded(jpeg))


@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation_in_every_kind(turn: int, kind: str) -> None:
    """A white corner stands where Pillow's own transposition puts it; the size is what a person sees."""
    lying = Image.new("RGB", (64, 32), "black")
    lying.paste("white", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = turn
    content = stored(lying, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    ways = [None, 0, 3, 1, 5, 4, 6, 2]  # EXIF 2.3, table 4, as Image.Transpose numbers them
    upright = lying if ways[turn - 1] is None else lying.transpose(Image.Transpose(ways[turn - 1]))
    found = picture(content, Shape(32, "squash"))
    assert found.size == upright.size
    wanted = np.asarray(upright.resize((32, 32), Image.Resampling.BILINEAR))
    assert np.abs(found.pixels.astype(int) - wanted).mean() < 3


def test_orientation_that_other_programs_note_as_text() -> None:
    """XMP within a PNG (Adobe, XMP specification part 3)."""
    upright = Image.new("RGB", (32, 32), "black")
    upright.paste("white", (0, 0, 32, 16))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta tiff:Orientation="6"/>')
    assert decoded(stored(upright, "PNG", pnginfo=text))[:, 31].min() == 255


@pytest.mark.parametrize("white", [False, True])
def test_what_follows_a_jpeg_is_no_damage(white: bool) -> None:
    """Telephones put films and notes behind the end marker; a white ground is not taken for missing rows then."""
    image = Image.new("RGB", (200, 150), "white" if white else "navy")
    image.paste("red", (20, 20, 180, 60))
    whole = stored(image, "JPEG")
    found = picture(whole + bytes(5000))
    assert not found.cut_off
    assert np.array_equal(found.pixels, decoded(whole))


@pytest.mark.parametrize("missing", [1, 2, 3, 20])
def test_a_few_missing_bytes_are_damage(missing: int) -> None:
    rng = np.random.default_rng(0)
    whole = stored(Image.fromarray(rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)), "JPEG")
    assert picture(whole[:-missing]).cut_off


def test_a_telephones_two_images_in_one_file() -> None:
    """MPO: a JPEG with further ones behind it (CIPA DC-007)."""
    image = Image.new("RGB", (64, 64), "red")
    found = picture(stored(image, "MPO", save_all=True, append_images=[Image.new("RGB", (64, 64), "blue")]))
    assert found.pixels[16, 16, 0] > 200
    assert not found.cut_off


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(("kind", "at"), [(b"zTXt", -12), (b"zTXt", 33), (b"iCCP", 33)])
def test_texts_and_profiles_of_any_size_anywhere(kind: bytes, at: int) -> None:
    """PNG, section 11.3: what Pillow takes no more than a megabyte of."""
    png = stored(Image.fromarray(SHADES), "PNG")
    large = chunk(kind, b"name\0\0" + zlib.compress(bytes(3_000_000)))
    assert np.array_equal(grey(png[:at] + large + png[at:]), SHADES)


MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "RGBX",
    "RGBa",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "LA",
    "PA",
    "La",
    "I",
    "F",
    "I;16",
    "I;16B",
)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_of_pillows_becomes_rgb(mode: str) -> None:
    assert rgb(Image.new(mode, (4, 4))).mode == "RGB"


def test_values_that_are_no_numbers_are_dark() -> None:
    values = SHADES.astype(np.float32)
    values[0, :2] = np.nan, np.inf
    found = grey(stored(Image.fromarray(values), "TIFF"))
    assert found[0, 0] == 0
    assert np.array_equal(found[1:], SHADES[1:])
    with pytest.raises(ValueError, match="not finite"):
        decoded(stored(Image.fromarray(np.full((32, 32), np.nan, np.float32)), "TIFF"))


def test_one_grey_alone_is_no_division_by_nothing() -> None:
    assert grey(stored(Image.fromarray(np.full((32, 32), 70_000.5, np.float32)), "TIFF")).max() == 0


def test_twelve_bits_in_words() -> None:
    """As scientific cameras and X-ray machines store them: not nearly black."""
    values = np.linspace(0, 4095, 32 * 32).round().astype(np.uint16).reshape(32, 32)
    assert np.abs(grey(stored(Image.fromarray(values), "PNG")) - values / 4095 * 255).max() <= 1


def test_the_clear_value_of_deep_grey_is_white() -> None:
    """PNG, section 11.3.2: one grey value may stand for nothing."""
    values = np.full((32, 32), 65535, np.uint16)
    values[:16] = 1000
    values[0, 0] = 0
    png = stored(Image.fromarray(values), "PNG")
    clear = png[:33] + chunk(b"tRNS", (1000).to_bytes(2, "big")) + png[33:]
    found = grey(clear)
    assert found[8, 8] == 255
    assert found[0, 0] == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "AVIF"),
        (b"%PDF-1.7\n\xff", "a PDF"),
        (b"PK\x03\x04\x14\0", "a zip archive"),
    ],
)
def test_what_a_file_is_instead(content: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=f"not a readable image: {told}"):
        decoded(content)


def test_postscript_is_never_handed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is called: Pillow would start Ghostscript on a stranger's program (Pillow#7391)."""
    marker = tmp_path / "started"
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ValueError, match=r"PostScript|a text file"):
        decoded(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    assert not marker.exists()
