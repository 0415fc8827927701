"""A small vision transformer (Dosovitskiy et al., 2020, https://arxiv.org/abs/2010.11929) with post-norm encoder layers
(Vaswani et al., 2017, https://arxiv.org/abs/1706.03762): 64 patches (of 4 pixels where the side is 32), width 192,
4 layers, 8 heads, feed-forward 384.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PARAMETERS = 1_212_490
STRONG = {
    "optimizer": "adamw",
    "rates": (2e-4, 4e-3),
    "weight_decay": 0.05,
    "epochs": 200,
    "label_smoothing": 0.1,
    "augmentation": ("crop", "flip", "trivial"),
}

WIDTH, LAYERS, HEADS, FEED_FORWARD, DROPOUT = 192, 4, 8, 384, 0.1
SIDE = 8  # patches in a row, whatever the size of the images
TOKENS = SIDE**2 + 1  # 64 patches and the class token


class VisionTransformer(nn.Module):
    def __init__(self, num_classes: int, patch: int, strong: bool) -> None:
        super().__init__()
        dropout = 0.0 if strong else DROPOUT
        self.patches = nn.Conv2d(3, WIDTH, kernel_size=patch, stride=patch)
        self.class_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.position = nn.Parameter(torch.zeros(1, TOKENS, WIDTH))
        self.dropout = nn.Dropout(dropout)
        # Built one by one: nn.TransformerEncoder copies one layer, so that all would start with the same weights.
        self.encoder = nn.Sequential(
            *(
                nn.TransformerEncoderLayer(
                    WIDTH, HEADS, FEED_FORWARD, dropout, activation="relu", batch_first=True, norm_first=strong
                )
                for _ in range(LAYERS)
            )
        )
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_classes))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)  # [batch, 192, 8, 8] -> [batch, 64, 192]
        class_token = self.class_token.expand(images.shape[0], -1, -1)  # [batch, 1, 192]
        tokens = torch.cat([class_token, tokens], dim=1) + self.position  # [batch, 65, 192]
        tokens = self.encoder(self.dropout(tokens))
        logits: Tensor = self.head(tokens[:, 0])  # [batch, 192] -> [batch, num_classes]
        return logits


def build(num_classes: int, image_size: int = 32, strong: bool = False) -> nn.Module:
    """`[batch, 3, image_size, image_size]` float images, a multiple of 8, to `[batch, num_classes]` logits.

    `strong`: pre-norm layers (Xiong et al., 2020, https://arxiv.org/abs/2002.04745) without dropout, the same tensors.
    """
    return VisionTransformer(num_classes, image_size // SIDE, strong)
