"""Linear layers on a CPU in fp32 by oneDNN's matrix products where those are the faster ones.

torch takes MKL's for fp32. On an AMD EPYC with AVX-512 oneDNN's are twice as fast (figures in bench/README.md); on
Intel's processors nobody has compared them. Which one it is, is measured when a run begins, and kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

TORCHS, ONEDNNS = "torch", "onednn"

# Of the probe: a batch of 128 rows, 768 values each, to 384. Its three products take a thread a millisecond each.
ROWS, FROM, TO = 128, 768, 384
ROUNDS = 9
WORTHWHILE = 1.2  # times as fast in the slowest of the three products


def product(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """`left @ right.T + bias` of fp32 `[..., inner]`, `[out, inner]` and `[out]`, by oneDNN."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return result


class Linear(torch.autograd.Function):
    """As `torch.nn.functional.linear`: x `[..., inner]`, weight `[out, inner]`, bias `[out]` or None."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        (grad,), (x, weight) = grads, ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, len(weight))  # [rows, out]
        return (
            product(rows, weight.T).view(x.shape) if of_x else None,
            product(rows.T, x.reshape(-1, x.shape[-1]).T) if of_weight else None,
            rows.sum(0) if of_bias else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`torch.nn.functional.linear`, in fp32 by oneDNN; under autocast and in other dtypes it is torch's own."""
    if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return functional.linear(x, weight, bias)
    result: Tensor = Linear.apply(x, weight, bias)
    return result


def linear_of(products: str) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The function for linear layers by whose products they are to use."""
    return linear if products == ONEDNNS else functional.linear


def run_linear(module: nn.Linear, x: Tensor) -> Tensor:
    """`module`'s forward."""
    return linear(x, module.weight, module.bias)


def choose_products(precision: str, kept: str | None = None) -> str:
    """`onednn` where fp32's products are faster so, else `torch`; `kept` is what a run that goes on began with."""
    if precision != "fp32" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return TORCHS
    return kept if kept in (TORCHS, ONEDNNS) else judge(probe())


def judge(speed: float) -> str:
    return ONEDNNS if speed >= WORTHWHILE else TORCHS


def probe() -> float:
    """How many times as fast oneDNN's products are as torch's, in the slowest of a linear layer's three: its output and
    the gradients of its input and its weights.

    In CPU time of one thread, as for the precision: what else the machine is doing must not decide.
    """
    random = torch.Generator().manual_seed(0)
    x, weight = torch.randn(ROWS, FROM, generator=random), torch.randn(TO, FROM, generator=random)
    grad = torch.randn(ROWS, TO, generator=random)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return min(gain(left, right) for left, right in ((x, weight), (grad, weight.T), (grad.T, x.T)))
    finally:
        torch.set_num_threads(threads)


def gain(left: Tensor, right: Tensor) -> float:
    return fastest(lambda: left @ right.T) / fastest(lambda: product(left, right))


def fastest(compute: Callable[[], Tensor]) -> float:
    """CPU seconds of the fastest of some rounds, after one that prepares the kernel."""
    compute()
    seconds = []
    for _ in range(ROUNDS):
        started = time.thread_time()
        compute()
        seconds.append(time.thread_time() - started)
    return min(seconds)
