"""Convolutions with few output positions as products with unfolded images, on a CPU: there oneDNN's own are far from
a product's speed, most of all in the gradient of the weights (figures in bench/README.md).
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.nn.grad import conv2d_input

FEW_POSITIONS = 4 * 4  # of an output channel


class Convolution(torch.autograd.Function):
    """Images `[batch, channels, height, width]` and weights `[out, channels, side, side]` of one dtype, both
    channels-last in memory, to `[batch, out, height', width']`, channels-last as well.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        side = weight.shape[2]
        height, width = (positions(size, side, stride, padding) for size in images.shape[2:])
        seen = unfolded(images, side, stride, padding)  # [batch * height' * width', side * side * channels]
        ctx.save_for_backward(images, weight, seen)
        ctx.stride, ctx.padding = stride, padding
        rows = seen @ weight.permute(0, 2, 3, 1).reshape(len(weight), -1).T  # [batch * height' * width', out]
        return rows.view(len(images), height, width, len(weight)).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (grad,), (images, weight, seen) = grads, ctx.saved_tensors
        of_images, of_weight = None, None
        if ctx.needs_input_grad[0]:
            shape, stride, padding = images.shape, ctx.stride, ctx.padding
            of_images = conv2d_input(shape, weight, grad, stride, padding)  # type: ignore[no-untyped-call]
        if ctx.needs_input_grad[1]:
            out, channels, side, _ = weight.shape
            product = grad.permute(0, 2, 3, 1).reshape(-1, out).T @ seen  # [out, side * side * channels]
            of_weight = product.view(out, side, side, channels).permute(0, 3, 1, 2)
        return of_images, of_weight, None, None


def positions(size: int, side: int, stride: int, padding: int) -> int:
    """How many positions a kernel of `side` pixels has along `size` pixels."""
    return (size + 2 * padding - side) // stride + 1


def unfolded(images: Tensor, side: int, stride: int, padding: int) -> Tensor:
    """What the kernel sees at each of its positions: `[batch * height' * width', side * side * channels]`."""
    pixels = pad(images.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    seen = pixels.unfold(1, side, stride).unfold(2, side, stride)  # [batch, height', width', channels, side, side]
    return seen.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side * images.shape[1])


def can_unfold(module: nn.Conv2d) -> bool:
    """Whether `convolve` does what this module would do: square kernels, zeros around, no groups, no bias."""
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        return False
    square = all(len(set(sizes)) == 1 for sizes in (module.kernel_size, module.stride, module.padding))
    return square and module.dilation == (1, 1) and module.groups == 1 and module.bias is None


def convolve(module: nn.Conv2d, images: Tensor) -> Tensor:
    """`module`'s forward. Without autocast, or where there are more than few positions, it is torch's own."""
    side, stride, padding = module.kernel_size[0], module.stride[0], int(module.padding[0])
    count = math.prod(positions(size, side, stride, padding) for size in images.shape[2:])
    if not torch.is_autocast_enabled("cpu") or count > FEW_POSITIONS or images.dim() != 4:
        return nn.Conv2d.forward(module, images)
    dtype = torch.get_autocast_dtype("cpu")
    result: Tensor = Convolution.apply(images.to(dtype), module.weight.to(dtype), stride, padding)
    return result
