"""A learner's weights in one row of memory, on a GPU: one kernel makes their half-precision copies and one collects
their gradients, where autocast takes two for each weight, most of them far too small for the card.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from job.device.optimizers import by_decay, decays, grouped

# Modules of exactly these types multiply with their weights and do nothing else with them: autocast casts them all.
PRODUCTS = (nn.Linear, nn.Conv2d, nn.MultiheadAttention, nn.modules.linear.NonDynamicallyQuantizableLinear)
ALIGNED = (64, 8)  # elements: what libraries' quickest kernels ask of an address, and what they ask at least


@dataclass(frozen=True)
class Place:
    """A weight of the model; `channels_last` says how it lies in memory."""

    name: str
    shape: torch.Size
    channels_last: bool

    def seen(self, part: Tensor) -> Tensor:
        """Its elements, `[count]`, in its shape, without a copy."""
        if not self.channels_last:
            return part.view(self.shape)
        out, channels, rows, columns = self.shape
        return part.view(out, rows, columns, channels).permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Piece:
    """Weights that are treated alike: `weights`, `param_dtype` `[count]`, holds all of them. The model's own parameters
    are views of it; its gradient and the optimizer's state are one tensor each. `half` is what products with them are
    computed in, None where they stay as they are.
    """

    weights: nn.Parameter
    places: tuple[Place, ...]
    half: torch.dtype | None
    decaying: bool

    def views(self) -> dict[str, Tensor]:
        """The weights by name as a forward pass takes them; its gradient comes to `weights`."""
        whole = self.weights if self.half is None else self.weights.to(self.half)
        parts = torch.split(whole, [place.shape.numel() for place in self.places])
        return {place.name: place.seen(part) for place, part in zip(self.places, parts, strict=True)}


def views(pieces: Iterable[Piece]) -> dict[str, Tensor]:
    return {name: view for piece in pieces for name, view in piece.views().items()}


def run(model: nn.Module, weights: dict[str, Tensor], inputs: Tensor) -> Tensor:
    """The model's answer with these `weights` in the place of its own (of which it keeps what is not named)."""
    answer: Tensor = functional_call(model, weights, (inputs,))
    return answer


def flatten(model: nn.Module, half: torch.dtype | None, channels_last: bool, decay: bool) -> tuple[Piece, ...]:
    """Moves the model's trainable weights into pieces, with the values that they have. In `half`, None for none, are
    those that only products take: what autocast would cast one by one. Under `decay` what decays lies apart.
    """
    named = [(name, one) for name, one in model.named_parameters() if one.requires_grad]
    multiplied = of_products(model) if half is not None else set()
    kinds: dict[tuple[bool, bool], list[tuple[str, nn.Parameter]]] = {}
    for name, one in sorted(named, key=lambda pair: disorder(pair[1].numel())):
        kinds.setdefault((one in multiplied, decay and decays(name, one)), []).append((name, one))
    pieces: list[Piece] = []
    moved: dict[nn.Parameter, nn.Parameter] = {}
    for (cast, decaying), weights in kinds.items():
        places = tuple(Place(name, one.shape, channels_last and one.dim() == 4) for name, one in weights)
        rows = [in_memory(one.detach(), place).flatten() for (_, one), place in zip(weights, places, strict=True)]
        piece = Piece(nn.Parameter(torch.cat(rows)), places, half if cast else None, decaying)
        parts = torch.split(piece.weights.detach(), [place.shape.numel() for place in places])
        moved |= {one: nn.Parameter(at.seen(part)) for (_, one), at, part in zip(weights, places, parts, strict=True)}
        pieces.append(piece)
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = moved.get(parameter, parameter)
    return tuple(pieces)


def in_memory(weight: Tensor, place: Place) -> Tensor:
    """A weight's dimensions in the order in which they lie in memory."""
    return weight.permute(0, 2, 3, 1) if place.channels_last else weight


def of_products(model: nn.Module) -> set[nn.Parameter]:
    """The weights that belong to `PRODUCTS` and to no other module."""
    owners: dict[nn.Parameter, list[type]] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                owners.setdefault(parameter, []).append(type(module))
    return {parameter for parameter, kinds in owners.items() if all(kind in PRODUCTS for kind in kinds)}


def disorder(count: int) -> int:
    """Weights whose count keeps the next ones aligned come first: no gaps are needed then."""
    return next((place for place, step in enumerate(ALIGNED) if count % step == 0), len(ALIGNED))


def groups(model: nn.Module, pieces: Sequence[Piece], weight_decay: float) -> list[dict[str, Any]]:
    """The weights as an optimizer takes them: the pieces, or the model's own where there are none."""
    if not pieces:
        return by_decay(model, weight_decay)
    return grouped(((piece.weights, piece.decaying) for piece in pieces), weight_decay)
