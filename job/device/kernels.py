"""Faster forwards for modules of a model, on a CPU. Names, weights and mathematics stay."""

from __future__ import annotations

from functools import partial
from itertools import pairwise

from torch import Tensor, nn

from job.device.attention import attend, can_attend
from job.device.convolution import can_unfold, convolve
from job.device.dropout import dropout
from job.device.encoder import encode
from job.device.products import ONEDNNS, TORCHS, linear_of, run_linear


def quicken(model: nn.Module, products: str = TORCHS) -> nn.Module:
    """Gives modules of exactly these types another forward; everything else, and any subclass, keeps its own.

    `products`: see `Compute`.
    """
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.forward = partial(dropout, module)  # type: ignore[method-assign]
        elif type(module) is nn.MultiheadAttention and can_attend(module):
            module.forward = partial(attend, module, linear_of(products))  # type: ignore[method-assign]
        elif type(module) is nn.TransformerEncoderLayer:
            module.forward = partial(encode, module)  # type: ignore[method-assign]
        elif type(module) is nn.Linear and products == ONEDNNS:
            module.forward = partial(run_linear, module)  # type: ignore[method-assign]
        elif type(module) is nn.Conv2d and can_unfold(module):
            module.forward = partial(convolve, module)  # type: ignore[method-assign]
        elif type(module) is nn.Sequential and any(can_exchange(*pair) for pair in pairwise(module)):
            module.forward = partial(in_order, module)  # type: ignore[method-assign]
    return model


def can_exchange(first: nn.Module, second: nn.Module) -> bool:
    """ReLU then max-pool: the other order gives the same values and gradients from a fraction of the elements."""
    return type(first) is nn.ReLU and type(second) is nn.MaxPool2d and not second.return_indices


def in_order(modules: nn.Sequential, x: Tensor) -> Tensor:
    """`modules` one after the other, a max-pool before the ReLU that precedes it. The modules themselves stay as they
    are: whoever calls one of them alone gets what it always gave.
    """
    waiting = list(modules)
    while waiting:
        module = waiting.pop(0)
        if waiting and can_exchange(module, waiting[0]):
            x = waiting.pop(0)(x)
        x = module(x)
    return x
