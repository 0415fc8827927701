"""A transformer's encoder layer on a CPU in full precision, in evaluation as in training by the modules it is made of:
the fused kernel that torch takes for evaluation knows neither quick attention nor quick products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def encode(layer: nn.TransformerEncoderLayer, tokens: Tensor, *masks: Any, **options: Any) -> Tensor:
    """`layer`'s forward of tokens `[batch, tokens, width]`; under autocast, or with masks, it is torch's own."""
    if masks or options or torch.is_autocast_enabled("cpu"):
        return nn.TransformerEncoderLayer.forward(layer, tokens, *masks, **options)
    if layer.norm_first:
        tokens = tokens + attended(layer, layer.norm1(tokens))
        return tokens + fed_forward(layer, layer.norm2(tokens))
    tokens = layer.norm1(tokens + attended(layer, tokens))
    result: Tensor = layer.norm2(tokens + fed_forward(layer, tokens))
    return result


def attended(layer: nn.TransformerEncoderLayer, x: Tensor) -> Tensor:
    mixed, _ = layer.self_attn(x, x, x, need_weights=False)
    result: Tensor = layer.dropout1(mixed)
    return result


def fed_forward(layer: nn.TransformerEncoderLayer, x: Tensor) -> Tensor:
    hidden = layer.dropout(layer.activation(layer.linear1(x)))
    result: Tensor = layer.dropout2(layer.linear2(hidden))
    return result
