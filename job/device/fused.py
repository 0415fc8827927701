"""Self-attention on a GPU by torch's fused kernel (Dao et al., 2022, https://arxiv.org/abs/2205.14135), which reads
query, key and value where the projection wrote them: torch's own module copies them, and adds up their gradients.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from job.device.attention import can_attend, is_plain


def fuse(model: nn.Module) -> nn.Module:
    """Gives attention of exactly torch's type another forward; names, weights and mathematics stay."""
    for module in model.modules():
        if type(module) is nn.MultiheadAttention and can_attend(module):
            module.forward = partial(attend, module)  # type: ignore[method-assign]
    return model


def attend(
    module: nn.MultiheadAttention, query: Tensor, key: Tensor, value: Tensor, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """`module`'s forward of `[batch, tokens, width]`; for anything else than plain self-attention torch's own."""
    if not is_plain(query, key, value, options):
        return nn.MultiheadAttention.forward(module, query, key, value, **options)
    batch, tokens, width = query.shape
    projected = linear(query, module.in_proj_weight, module.in_proj_bias)
    parts = projected.view(batch, tokens, 3, module.num_heads, width // module.num_heads).unbind(2)
    q, k, v = (part.transpose(1, 2) for part in parts)  # [batch, heads, tokens, each]
    mixed = scaled_dot_product_attention(q, k, v, dropout_p=module.dropout if module.training else 0.0)
    mixed = mixed.transpose(1, 2).reshape(batch, tokens, width)
    return linear(mixed, module.out_proj.weight, module.out_proj.bias), None
