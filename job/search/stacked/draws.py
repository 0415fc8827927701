"""The mode under which a model's forward runs in a stack: dropout, and what torch has no rule for, written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from job.device.precision import full

LEVELS = 2**16  # a dropout probability is rounded to this many steps: it is decided by 16 random bits


def drawn(generators: Sequence[torch.Generator], count: int, device: torch.device) -> Tensor:
    """Random bits, int16 `[learners, count]`, each row from its own generator and so the same in any company."""
    words = torch.empty(len(generators), -(-count // 4), dtype=torch.int64, device=device)
    if count:
        for row, generator in zip(words, generators, strict=True):
            row.random_(-(2**63), None, generator=generator)  # all 64 bits: four decisions
    return words.view(torch.int16)[:, :count]


class Draws(TorchFunctionMode):
    """Within it, dropout decides by `bits`, one learner's own (int16, as many as there are decisions, in order).

    Without bits it counts the decisions and drops nothing. Attention is written out, because torch's own function has
    no rule for vmap and draws its dropout by itself; so is the mean over a whole image, which lacks a rule as well.
    Linear layers cast to `dtype`, where there is one, since vmap goes around autocast.
    """

    def __init__(self, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dtype = dtype
        self.bits: Tensor | None = None
        self.taken = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is functional.dropout:
            return self.dropout(*args, **kwargs)
        if function is functional.linear:
            return self.linear(*args, **kwargs)
        if function is functional.batch_norm:
            return self.batch_norm(*args, **kwargs)
        if function is functional.adaptive_avg_pool2d and args[1] in (1, (1, 1)):
            return args[0].mean(dim=(-2, -1), keepdim=True)
        if function is functional.multi_head_attention_forward:
            return self.self_attention(*args, **kwargs)
        if function is functional.scaled_dot_product_attention:
            raise NotImplementedError("attention outside nn.MultiheadAttention has not been written out")
        return function(*args, **kwargs)

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`x / (1 - p)` where kept, 0 where dropped (Srivastava et al., 2014), p rounded to 1 / LEVELS."""
        dropped = round(p * LEVELS)
        if not training or dropped == 0:
            return x
        start, self.taken = self.taken, self.taken + x.numel()
        if self.bits is None:
            return x
        if dropped == LEVELS:
            return torch.zeros_like(x)
        out = self.bits[start : self.taken].view(x.shape) < dropped - LEVELS // 2
        return x.masked_fill(out, 0.0) * (LEVELS / (LEVELS - dropped))

    def batch_norm(self, x: Tensor, *statistics: Any, **options: Any) -> Tensor:
        """In full precision and contiguous. On a GPU torch asks how the input lies, for which vmap has no rule; and it
        takes half-precision input beside float32 statistics only where it sees a float32 weight, which vmap holds back.
        (`is_mixed_type` in aten/src/ATen/native/cuda/Normalization.cu)
        """
        return functional.batch_norm(full(x).contiguous(), *statistics, **options).to(x.dtype)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        if x.numel() == x.shape[-1]:
            return self.linear_of_one(x, weight, bias)
        if self.dtype is None:
            return functional.linear(x, weight, bias)
        return functional.linear(x.to(self.dtype), weight.to(self.dtype), None if bias is None else bias.to(self.dtype))

    def linear_of_one(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The same of a single row, without a matrix product: the gradient of its weights is an outer product, for
        which torch 2.14 would compile a kernel on a GPU, with a C compiler that may not be there (torch/_native/ops).
        """
        out = (x.unsqueeze(-2) * weight).sum(dim=-1)  # [..., 1, in] * [out, in] -> [..., out]
        return (out if bias is None else out + bias).to(self.dtype or out.dtype)

    def self_attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        width: int,
        heads: int,
        in_weight: Tensor,
        in_bias: Tensor | None,
        bias_k: Tensor | None,
        bias_v: Tensor | None,
        add_zero_attn: bool,
        p: float,
        out_weight: Tensor,
        out_bias: Tensor | None,
        training: bool = True,
        **options: Any,
    ) -> tuple[Tensor, None]:
        """Scaled dot-product attention of a sequence with itself (Vaswani et al., 2017, section 3.2).

        `query` is `[tokens, batch, width]`, and key and value are the same tensor; there is no mask.
        """
        refused = ("key_padding_mask", "attn_mask", "need_weights", "use_separate_proj_weight", "is_causal")
        if query is not key or key is not value or add_zero_attn or bias_k is not None or bias_v is not None:
            raise NotImplementedError("attention between two sequences has not been written out")
        if any(options.get(name) not in (None, False) for name in refused):
            raise NotImplementedError(f"attention with {options} has not been written out")
        tokens, batch, _ = query.shape
        projected = self.linear(query, in_weight, in_bias).view(tokens, batch, 3, heads, width // heads)
        q, k, v = projected.permute(2, 1, 3, 0, 4)  # each [batch, heads, tokens, width / heads]
        scores = full(q @ k.transpose(-2, -1)) * (width // heads) ** -0.5  # [batch, heads, tokens, tokens]
        attention = self.dropout(scores.softmax(dim=-1), p, training).to(v.dtype)
        mixed = (attention @ v).permute(2, 0, 1, 3).reshape(tokens, batch, width)
        return self.linear(mixed, out_weight, out_bias), None
