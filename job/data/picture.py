"""One image file → RGB, whatever kind of image it is."""

from __future__ import annotations

import io
import math
import struct
import threading
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # nothing else is opened: Pillow hands EPS to Ghostscript
ORIENTATION = 0x0112  # EXIF 2.3, table 4
MOST_PIXELS = 178_956_970  # Pillow's own limit for what is no bomb: 2 GiB at 12 bytes a pixel
LARGE_PIXELS = 16_000_000  # of an image that is decoded alone, so that memory does not grow with the cores
CUT_ROWS = 0.1  # the share of a JPEG's rows that may be missing at its end
TEXT_CHUNKS = (b"tEXt", b"zTXt", b"iTXt")
BORDER = (125, 123, 114)  # the mean colour that images are normalised with: borders are nothing to the model
LARGE = threading.Lock()


@dataclass(frozen=True)
class Shape:
    """What images are brought to: `side` pixels wide and high, by cutting out the middle (`crop`), by filling the
    borders (`pad`), or by giving up the proportions (`squash`).
    """

    side: int = 32
    resize: str = "crop"


SMALL = Shape()


def decoded(content: bytes, shape: Shape = SMALL) -> NDArray[np.uint8]:
    """uint8 `[side, side, 3]`. A camera's orientation tag is followed, transparent parts are white, 16-bit and floating
    grey are scaled by their range, of a moving image the first frame is taken.

    Raises ValueError with the reason where it is not an image that can be read.
    """
    try:
        return np.asarray(opened(content, shape))
    except MemoryError:
        raise
    except UnidentifiedImageError:
        raise ValueError("not a readable image" if content else "an empty file") from None
    except Image.DecompressionBombError:
        raise ValueError("more pixels than a photograph has: a decompression bomb") from None
    except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, ValueError and more
        raise ValueError(str(error) or type(error).__name__) from error


def is_cut_off(content: bytes) -> bool:
    """Whether a JPEG lacks its end marker (ITU T.81, B.1.1.3): it was not copied to its last byte."""
    return content.startswith(b"\xff\xd8\xff") and b"\xff\xd9" not in content[-64:]


def opened(content: bytes, shape: Shape) -> Image.Image:
    """The image as RGB in that shape."""
    if is_cut_off(content):
        return mended(content, shape)
    if content.startswith(b"\x89PNG") and any(kind in content[: 1 << 16] for kind in TEXT_CHUNKS):
        content = without_text(content)
    with Image.open(io.BytesIO(content), formats=FORMATS) as image, ExitStack() as held:
        pixels = image.width * image.height
        if pixels > MOST_PIXELS:
            raise Image.DecompressionBombError
        draft(image, shape)
        if image.width * image.height > LARGE_PIXELS:
            held.enter_context(LARGE)
        return scaled(upright(image), shape)


def draft(image: Image.Image, shape: Shape) -> None:
    """Has a JPEG decoded at a half, a quarter or an eighth of its size where that leaves twice the pixels that are
    wanted (libjpeg scales while it decodes, which costs a fraction of the time and memory).
    """
    if image.format in ("JPEG", "MPO"):
        share = 2 * shape.side / (max if shape.resize == "pad" else min)(image.size)
        image.draft(image.mode, (math.ceil(share * image.width), math.ceil(share * image.height)))


def mended(content: bytes, shape: Shape) -> Image.Image:
    """A JPEG with an end marker put at its end: what was there is decoded, and the rest has one colour.

    Raises ValueError where more than a tenth of its rows are missing.
    """
    try:
        image = Image.open(io.BytesIO(content + b"\xff\xd9"), formats=("JPEG",))
        draft(image, shape)
        rows = np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError) as error:
        raise ValueError("cut off, or damaged") from error
    last = rows[int(len(rows) * (1 - CUT_ROWS)) :].reshape(-1, 3)
    if (last.max(axis=0) == last.min(axis=0)).all():
        raise ValueError("cut off: more than a tenth of it is missing")
    return scaled(upright(image), shape)


def upright(image: Image.Image) -> Image.Image:
    """As the camera was held. Pillow's own function copies where there is nothing to turn."""
    return ImageOps.exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


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
        image = Image.fromarray(grey(np.asarray(image, dtype=np.float32), shares=image.mode == "F"))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def grey(values: NDArray[np.float32], shares: bool) -> NDArray[np.uint8]:
    """Grey of more than eight bits, or floating, by its range: `shares` up to 1, bytes up to 255 (which scanners put
    into 16 bits), words up to 65,535; anything else from its least to its greatest value.
    """
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("its values are not finite")
    brought: NDArray[np.float32]
    whole = bool((values == np.round(values)).all())
    if low >= 0 and high <= 1 and shares:
        brought = np.float32(255) * values
    elif low >= 0 and high <= 255:
        brought = values
    elif low >= 0 and whole and high <= 65535:
        brought = values / np.float32(257)
    else:
        brought = (values - low) * np.float32(255 / (high - low))
    return brought.clip(0, 255).astype(np.uint8)


def without_text(content: bytes) -> bytes:
    """A PNG without its text chunks, which Pillow refuses where they are large (PNG, section 5.3: length, type, data,
    CRC).
    """
    kept, at = [content[:8]], 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        if content[at + 4 : at + 8] not in TEXT_CHUNKS:
            kept.append(content[at : at + 12 + length])
        at += 12 + length
    return b"".join(kept)
