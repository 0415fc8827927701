"""Networks with the layers of the job's own models at a size for tests of many steps in float64."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock


def perceptron(classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 32), nn.ReLU(), nn.Linear(32, classes))


def convolutional() -> nn.Module:
    """One block of the cnn and its head: batch norm behind a bias that it cancels, dropout between linear layers."""
    block = (nn.Conv2d(3, 6, 3, stride=2, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2))
    head = (nn.Flatten(), nn.Linear(6 * 8 * 8, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10))
    return nn.Sequential(*block, *head)


def residual() -> nn.Module:
    """What torchvision's ResNet has: batch norm, shortcuts with and without a convolution, average pooling."""
    stem = (nn.Conv2d(3, 8, 5, stride=4, padding=2, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    shortcut = nn.Sequential(nn.Conv2d(8, 16, 1, stride=2, bias=False), nn.BatchNorm2d(16))
    blocks = (BasicBlock(8, 8), BasicBlock(8, 16, stride=2, downsample=shortcut))
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten(), nn.Linear(16, 10))


class Transformer(nn.Module):
    """The vit's layers: 16 patches, 32 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 32, kernel_size=8, stride=8)
        self.dropout = nn.Dropout(0.1)
        layers = (nn.TransformerEncoderLayer(32, 4, 64, 0.1, activation="relu", batch_first=True) for _ in range(2))
        self.encoder = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.LayerNorm(32), nn.Linear(32, 10))

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.dropout(self.patches(images).flatten(2).transpose(1, 2))  # [batch, 16, 32]
        logits: Tensor = self.head(self.encoder(tokens)[:, 0])
        return logits


MODELS: dict[str, Callable[[], nn.Module]] = {
    "perceptron": perceptron,
    "convolutional": convolutional,
    "residual": residual,
    "transformer": Transformer,
}


def without_dropout(build: Callable[[], nn.Module]) -> nn.Module:
    model = build()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return model
