"""The loss that a model is trained with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from job.engine.augmentation import Batch
from job.engine.build import class_weights, recipe_of


@dataclass(frozen=True)
class Criterion:
    """What a batch's loss is: cross-entropy, in which an image counts as its class does (`[classes]`; None: all alike).
    `smoothing` is the share of a label that goes to all classes alike (Szegedy et al., 2015,
    https://arxiv.org/abs/1512.00567, section 7).
    """

    class_weights: Tensor | None = None
    smoothing: float = 0.0

    def mean(self, logits: Tensor, batch: Batch) -> Tensor:
        """Over the images, `[batch, classes]` to a scalar, so that a batch of images that count much weighs more."""
        if self.class_weights is None and batch.partners is None:
            return cross_entropy(logits, batch.labels, label_smoothing=self.smoothing)
        return self.of_each(logits, batch).mean()

    def of_each(self, logits: Tensor, batch: Batch) -> Tensor:
        """`[batch, classes]` to `[batch]`. Where images are mixed, each label counts by its share."""
        if batch.partners is None or batch.share is None:
            return self._of_labels(logits, batch.labels)
        share = batch.share.to(logits.dtype)
        return self._of_labels(logits, batch.labels) * share + self._of_labels(logits, batch.partners) * (1 - share)

    def _of_labels(self, logits: Tensor, labels: Tensor) -> Tensor:
        losses = cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        return losses if self.class_weights is None else losses * self.class_weights.index_select(0, labels)


def criterion_of(build: Callable[[], nn.Module], like: Tensor) -> Criterion:
    """That of a builder's models, in dtype and place of `like`."""
    return Criterion(class_weights(build, like), recipe_of(build).label_smoothing)
