"""Every kind of image, decoded to what a person sees."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from job.data.picture import BORDER, MOST_PIXELS, SMALL, Shape
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

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

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
