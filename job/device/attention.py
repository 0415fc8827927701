"""Self-attention on a CPU (Vaswani et al., 2017, section 3.2) whose dropout takes a bitwise and, all of it in the dtype
of its input. torch's own falls to its slow path as soon as the attention weights are dropped out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from job.device.dropout import draw, masked

Linear = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class SelfAttention(torch.autograd.Function):
    """Query, key and value side by side `[batch, tokens, 3 * width]` to `[batch, tokens, width]`.

    `mask` is None or `[batch * heads * tokens * tokens]`, and `kept` what goes with it (see `dropout.draw`).
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, heads: int, mask: Tensor | None, kept: float) -> Tensor:
        batch, tokens, width = projected.shape[0], projected.shape[1], projected.shape[2] // 3
        each = width // heads
        parts = projected.view(batch, tokens, 3, heads, each).permute(2, 0, 3, 1, 4).contiguous()
        query, key, value = parts.view(3, batch * heads, tokens, each)  # [batch * heads, tokens, each]
        query *= each**-0.5
        weights = torch.bmm(query, key.transpose(1, 2)).softmax(dim=-1)  # [batch * heads, tokens, tokens]
        ctx.save_for_backward(query, key, value, weights, mask)
        ctx.heads, ctx.kept = heads, kept
        if mask is not None:
            weights = masked(weights, mask)
            value = value if kept == 1 else value * kept  # far smaller than the weights
        return merged(torch.bmm(weights, value), batch)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        query, key, value, weights, mask = ctx.saved_tensors
        batch, (rows, tokens, each) = len(grads[0]), query.shape
        grad = grads[0].view(batch, tokens, ctx.heads, each).transpose(1, 2).reshape(rows, tokens, each)
        parts = query.new_empty(3, rows, tokens, each)
        if mask is None:
            torch.bmm(weights.transpose(1, 2), grad, out=parts[2])
            of_weights = torch.bmm(grad, value.transpose(1, 2))
        else:
            grad = grad if ctx.kept == 1 else grad * ctx.kept
            torch.bmm(masked(weights, mask).transpose(1, 2), grad, out=parts[2])
            of_weights = masked(torch.bmm(grad, value.transpose(1, 2)), mask)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        torch.bmm(of_scores, key, out=parts[0])
        parts[0] *= each**-0.5
        torch.bmm(of_scores.transpose(1, 2), query, out=parts[1])
        projected = parts.view(3, batch, ctx.heads, tokens, each).permute(1, 3, 0, 2, 4)
        return projected.reshape(batch, tokens, 3 * ctx.heads * each), None, None, None


def merged(heads: Tensor, batch: int) -> Tensor:
    """`[batch * heads, tokens, each]` to `[batch, tokens, heads * each]`."""
    rows, tokens, each = heads.shape
    return heads.view(batch, rows // batch, tokens, each).transpose(1, 2).reshape(batch, tokens, rows // batch * each)


def can_attend(module: nn.MultiheadAttention) -> bool:
    """Whether `attend` does what this module would do: queries, keys and values of one width, nothing added."""
    plain = module.bias_k is None and not module.add_zero_attn and module.batch_first
    return plain and module.in_proj_weight is not None and module.in_proj_bias is not None


def is_plain(query: Tensor, key: Tensor, value: Tensor, options: Mapping[str, Any]) -> bool:
    """Whether a call asks for self-attention alone: no mask, and none of the weights."""
    masks = options.get("attn_mask") is not None or options.get("key_padding_mask") is not None
    asked = masks or options.get("is_causal", False) or options.get("need_weights", True)
    return not asked and query is key and key is value and query.dim() == 3


def attend(
    module: nn.MultiheadAttention, linear: Linear, query: Tensor, key: Tensor, value: Tensor, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """`module`'s forward, its projections by `linear`; for anything else than plain self-attention torch's own."""
    if not is_plain(query, key, value, options):
        return nn.MultiheadAttention.forward(module, query, key, value, **options)
    projected = linear(query, module.in_proj_weight, module.in_proj_bias)  # in autocast's dtype
    mask, kept = None, 1.0
    if module.training and module.dropout > 0:
        count = query.shape[0] * module.num_heads * query.shape[1] ** 2
        mask, kept = draw(count, module.dropout, projected.dtype)
    attended = SelfAttention.apply(projected, module.num_heads, mask, kept)
    return linear(attended, module.out_proj.weight, module.out_proj.bias), None
