"""Class names in any script: a font of this machine that draws them, or an honest stand-in."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from matplotlib import font_manager

USUAL = "DejaVu Sans"  # comes with matplotlib

BOXES = ("Last Resort High-Efficiency", "Last Resort", "LastResort", "Adobe Blank")  # draw every sign, and say nothing


@functools.cache
def signs_of(file: str) -> frozenset[int]:
    """The code points that a font file draws; none where it cannot be read."""
    try:
        return frozenset(font_manager.get_font(file).get_charmap())
    except (OSError, RuntimeError):
        return frozenset()


@functools.cache
def coverage(texts: tuple[str, ...]) -> tuple[tuple[str, ...], frozenset[int]]:
    """Families for `font.family`, each for what those before it lack, and all that they draw together.

    The machine's own fonts are looked through only where the usual one is not enough.
    """
    drawn = signs_of(font_manager.findfont(USUAL))
    found = [USUAL]
    wanted = {ord(sign) for text in texts for sign in text if sign.isprintable()}
    for font in sorted(font_manager.fontManager.ttflist, key=lambda font: (font.name, font.fname)):
        if wanted <= drawn:
            break
        if font.name not in (*found, *BOXES) and (wanted - drawn) & signs_of(font.fname):
            found.append(font.name)
            drawn |= signs_of(font.fname)
    return tuple(found), drawn


def drawable(names: Sequence[str]) -> list[str]:
    """The names, and `class N` (counted from 1, the line in per_class.csv) for what no font here draws."""
    _, drawn = coverage(tuple(names))
    return [
        name if all(ord(sign) in drawn for sign in name) else f"class {number}" for number, name in enumerate(names, 1)
    ]
