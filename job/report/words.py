"""Numbers as people read them, the same in text, Markdown and pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FILTERS = ("count", "dollars", "duration", "loss", "percent", "plural", "share", "signed")


def duration(seconds: float) -> str:
    """`Mm Ss`, in whole seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest}s"


def dollars(amount: float) -> str:
    """An amount in USD: cents, and two digits of what is less than ten of them."""
    return f"{amount:.2f} USD" if amount >= 0.1 or amount == 0 else f"{amount:.2g} USD"


def share(value: float, digits: int = 1) -> str:
    """A share of 0 to 1 in percent, without the sign: for a column or an interval whose sign stands elsewhere."""
    return f"{100 * value:.{digits}f}"


def percent(value: float, digits: int = 1) -> str:
    """A share of 0 to 1: `12.3 %`."""
    return f"{share(value, digits)} %"


def loss(value: float) -> str:
    return f"{value:.4f}"


def count(number: int) -> str:
    """With thousands separators."""
    return f"{number:,}"


def plural(number: int, word: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number:,} {word}{'s' * (number != 1)}"


def signed(points: float) -> str:
    """Two decimals with a sign, a true minus among them."""
    return f"{points:+.2f}".replace("-", "−")


def ran_on(provenance: Mapping[str, Any]) -> str:
    """The device in words, as `Compute.describe` told it then."""
    kind = str(provenance["device"]).partition(":")[0]
    return f"{kind} on {provenance['hardware']}, {provenance['precision']}"
