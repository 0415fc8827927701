"""Names and values that are nearly right: what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable


def did_you_mean(value: str, choices: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(value.lower(), choices, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


def misspelled(set_names: Iterable[str], ours: Collection[str]) -> dict[str, str]:
    """Name → the nearest of `ours`, for every one of `set_names` that is nearly one: it would silently do nothing."""
    near = {name: [own for own in sorted(ours) if nearly(name.upper(), own)] for name in sorted(set_names)}
    return {name: found[0] for name, found in near.items() if found}


def nearly(name: str, own: str) -> bool:
    """Whether `name` is a likely slip for `own`. Short names are judged strictly: NODE is not MODE, nor SPEED SEED."""
    if name[0] != own[0] or abs(len(name) - len(own)) > 2:
        return False
    if name.replace("_", "") == own.replace("_", "") or (len(name) == len(own) and sorted(name) == sorted(own)):
        return True
    if name in (own + "S", own[:-1]):
        return True
    return len(own) > 6 and difflib.SequenceMatcher(None, name, own, autojunk=False).ratio() >= 0.88
