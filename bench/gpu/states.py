"""What learners are, as tensors by their names, and where two of them differ."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

EQUAL = "equal"
State = dict[str, Tensor]


def flattened(value: Any, name: str = "") -> State:
    """Every tensor and number of a snapshot by its path."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, (int, float)):
        return {name: torch.tensor(value, dtype=torch.float64)}
    if isinstance(value, list):
        value = dict(enumerate(value))
    found: State = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        found |= flattened(item, f"{name}.{key}" if name else str(key))
    return found


def apart(one: State, other: State, began: State) -> str:
    """EQUAL where every tensor is with torch.equal; else how far they lie apart, as a share of how far the steps moved
    them from where they `began`, and which differ.
    """
    different = differing(one, other)
    if not different:
        return EQUAL
    keys = [key for key in one if key in began and one[key].is_floating_point() and ".exp_avg" not in key]

    def norm(left: State, right: State) -> float:
        return float(torch.cat([(left[key].double() - right[key].double()).flatten() for key in keys]).norm())

    moved = norm(other, began)
    share = f"{norm(one, other) / moved:.2g} of the way" if moved else f"{norm(one, other):.2g}, where nothing moved,"
    return f"{share} apart; {len(different)} of {len(one)} tensors, first {different[0]}"


def differing(one: State, other: State) -> list[str]:
    """The names of the tensors that are not torch.equal. Raises ValueError where one state has tensors of its own."""
    if one.keys() != other.keys():
        raise ValueError(f"in one state alone: {', '.join(sorted(one.keys() ^ other.keys()))}")
    return [name for name in one if not torch.equal(one[name], other[name])]
