"""One image file → RGB, whatever kind of image it is."""

from __future__ import annotations

import hashlib
import io
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from job.data.sniff import HEAD, mistaken_for, other_format

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # nothing else is opened: Pillow hands EPS to Ghostscript
JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"  # how their files begin
ORIENTATION = 0x0112  # EXIF 2.3, table 4
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LYING = (5, 6, 7, 8)  # orientations of which width and height are exchanged
MOST_PIXELS = 178_956_970  # Pillow's own limit for what is no bomb: 2 GiB at 12 bytes a pixel
LARGE_PIXELS = 16_000_000  # of an image that is decoded alone, so that memory does not grow with the cores
CUT_ROWS = 0.1  # the share of a JPEG's rows that may be missing at its end
DEPTHS = (255, 4095, 65535)  # greatest values of eight, twelve and sixteen bits
TEXTS = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")  # chunks of a PNG that say nothing of its pixels
BORDER = (125, 123, 114)  # the mean colour that images are normalised with: borders are nothing to the model
HASH = 16  # bytes that tell images apart
LARGE = threading.Lock()


@dataclass(frozen=True)
class Shape:
    """What images are brought to: `side` pixels wide and high, by cutting out the middle (`crop`), by filling the
    borders (`pad`), or by giving up the proportions (`squash`).
    """

    side: int = 32
    resize: str = "crop"


SMALL = Shape()


@dataclass(frozen=True)
class Picture:
    """`pixels` uint8 `[side, side, 3]`; `size` is the file's own width and height as a person sees it, in pixels;
    `cut_off` where a JPEG's last bytes are missing.
    """

    pixels: NDArray[np.uint8]
    size: tuple[int, int]
    cut_off: bool = False


def content(pixels: NDArray[np.uint8]) -> bytes:
    """A hash of an image's pixels, of HASH bytes."""
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=HASH).digest()


def decoded(content: bytes, shape: Shape = SMALL) -> Picture:
    """The image in a file's bytes. A camera's orientation tag is followed, transparent parts are white, deep and
    floating grey are scaled by their range, of a moving image the first frame is taken.

    Raises ValueError with the reason where it is not an image that can be read.
    """
    try:
        return opened(content, shape)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise ValueError(unlike(content)) from None
    except Image.DecompressionBombError:
        raise ValueError("more pixels than a photograph has: a decompression bomb") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and more
        raise ValueError(str(error) or type(error).__name__) from error


def unlike(content: bytes) -> str:
    """What a file is that is none of FORMATS."""
    if content.startswith(JPEG):
        return "cut off, or damaged"
    mistaken = mistaken_for(content[:HEAD])
    said = mistaken[0] if mistaken else other_format(content[:HEAD])
    return said if not content else f"not a readable image: {said}" if said else "not a readable image"


def opened(content: bytes, shape: Shape) -> Picture:
    """The image, once more where Pillow refuses it for what does not matter to its pixels."""
    try:
        return drawn(content, shape)
    except OSError as error:
        if content.startswith(JPEG) and "truncated" in str(error):
            return mended(content, shape)
        raise
    except ValueError:
        if content.startswith(PNG):  # texts that are large, or more than Pillow unpacks
            return drawn(without_texts(content), shape)
        raise


def drawn(content: bytes, shape: Shape) -> Picture:
    with Image.open(io.BytesIO(content), formats=FORMATS) as image:
        size = image.size
        if size[0] * size[1] > MOST_PIXELS:
            raise Image.DecompressionBombError
        draft(image, shape)
        with alone_if_large(image):
            image.load()
            turn = orientation(image)
            pixels = scaled(upright(image, turn), shape)
    return Picture(np.asarray(pixels), size[::-1] if turn in LYING else size)


@contextmanager
def alone_if_large(image: Image.Image) -> Iterator[None]:
    """Images of many pixels are decoded one at a time."""
    if image.width * image.height <= LARGE_PIXELS:
        yield
        return
    with LARGE:
        yield


def draft(image: Image.Image, shape: Shape) -> None:
    """Has a JPEG decoded at a half, a quarter or an eighth of its size where that leaves twice the pixels that are
    wanted (libjpeg scales while it decodes, which costs a fraction of the time and memory).
    """
    if image.format in ("JPEG", "MPO"):
        share = 2 * shape.side / (max if shape.resize == "pad" else min)(image.size)
        image.draft(image.mode, (math.ceil(share * image.width), math.ceil(share * image.height)))


def mended(content: bytes, shape: Shape) -> Picture:
    """A JPEG with an end marker put at its end: what was there is decoded, and the rest has one colour.

    Raises ValueError where more than a tenth of its rows are missing.
    """
    try:
        image = Image.open(io.BytesIO(content + b"\xff\xd9"), formats=("JPEG",))
        size = image.size
        draft(image, shape)
        rows = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError("cut off, or damaged") from error
    last = rows[int(len(rows) * (1 - CUT_ROWS)) :].reshape(-1, 3)
    if (last.max(axis=0) == last.min(axis=0)).all():
        raise ValueError("cut off: more than a tenth of it is missing")
    turn = orientation(image)
    pixels = scaled(upright(image, turn), shape)
    return Picture(np.asarray(pixels), size[::-1] if turn in LYING else size, cut_off=True)


def orientation(image: Image.Image) -> int:
    """As the camera noted it, 1 to 8; upright where it noted nothing that can be read."""
    try:
        said = image.getexif().get(ORIENTATION)
    except Exception:  # a damaged note is none, and says nothing of the pixels; Pillow raises whatever it meets
        return 1
    return said if said in TURNS else 1


def upright(image: Image.Image, turn: int) -> Image.Image:
    return image.transpose(TURNS[turn]) if turn in TURNS else image


def scaled(image: Image.Image, shape: Shape) -> Image.Image:
    image, size = rgb(image), (shape.side, shape.side)
    if image.size == size:
        return image
    if shape.resize == "crop":
        return ImageOps.fit(image, size, Image.Resampling.BILINEAR)
    if shape.resize == "pad":
        return ImageOps.pad(image, size, Image.Resampling.BILINEAR, color=BORDER)
    return image.resize(size, Image.Resampling.BILINEAR)


def rgb(image: Image.Image) -> Image.Image:
    """Any of Pillow's modes as RGB."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float32)
        shades = grey(values, shares=image.mode == "F")
        clear = image.info.get("transparency")  # one value (PNG, section 11.3.2)
        return Image.fromarray(np.where(values == clear, np.uint8(255), shades)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.mode in ("RGBA", "LA", "PA", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def grey(values: NDArray[np.float32], shares: bool) -> NDArray[np.uint8]:
    """Grey of more than eight bits, or floating, by its range: `shares` up to 1; whole numbers by the least of DEPTHS
    that holds them, for scanners put bytes, and cameras twelve bits, into words; anything else from its least to its
    greatest value. What is no number is as dark as the least. Raises ValueError where nothing is a number.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        raise ValueError("its values are not finite")
    low, high = float(known.min()), float(known.max())
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    whole = bool((values == np.rint(values)).all())
    brought: NDArray[np.float32]
    if low >= 0 and high <= 1 and shares:
        brought = np.rint(np.float32(255) * values)
    elif low >= 0 and high <= DEPTHS[0]:
        brought = values
    elif low >= 0 and whole and high <= DEPTHS[-1]:
        brought = values * np.float32(255) / np.float32(next(depth for depth in DEPTHS if high <= depth))
    else:
        brought = (values - low) * np.float32(255 / (high - low) if high > low else 0)
    return brought.clip(0, 255).astype(np.uint8)


def without_texts(content: bytes) -> bytes:
    """A PNG without its texts and colour profile, wherever they stand (PNG, section 5.3: length, type, data, CRC)."""
    kept, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] not in TEXTS:
            kept.append(content[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)
