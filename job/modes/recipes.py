"""What a run under a recipe tells beside its numbers: the rate over the steps, and what augmentation does."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from job.data import Dataset
from job.device.track import batch_sizes
from job.engine.augmentation import augmentation, shown
from job.engine.schedule import planned, sampled
from job.models import Recipe
from job.report.records import OfRecipe
from job.results import Choice, Score
from job.seeds import seed_for
from job.settings import Settings

ROWS, COLUMNS = 8, 8  # of the sheet; the first column has the images as they are


def told(settings: Settings, data: Dataset, choice: Choice, recipe: Recipe, flipped: Score | None) -> OfRecipe:
    """All that a report tells of a recipe. `flipped` is the score with test-time flip."""
    plan = planned(recipe, choice.learning_rate, choice.epochs)
    steps = len(batch_sizes(len(data.train), settings.batch_size))
    rates = () if isinstance(plan, float) else sampled(plan, steps)
    sheet = augmented(data, recipe, settings.seed, choice.epochs) if recipe.augmentation else None
    return OfRecipe(recipe, rates, sheet, flipped)


def augmented(data: Dataset, recipe: Recipe, seed: int, epochs: int) -> NDArray[np.uint8]:
    """Some training images, each in a row of the first epochs of the final training, uint8 `[rows, columns, side, side,
    3]`. Mixed ones are mixed with the row above, since others of their batch are not here.
    """
    labels = data.train.labels.cpu()
    classes = range(len(data.classes))
    firsts = [int(rows[0]) for label in classes if len(rows := torch.nonzero(labels == label)[:, 0])]
    images = data.train.at(np.array(firsts[:ROWS], dtype=np.int64))
    rows = torch.tensor(firsts[:ROWS], device=images.device)
    how = augmentation(recipe, images.device)
    columns = [images]
    for number in range(1, min(COLUMNS, epochs + 1)):
        assert how is not None
        how.begin(seed_for(seed, "final", "epoch", number, "augmentation"))
        columns.append(shown(how, images, rows))
    pixels: NDArray[np.uint8] = torch.stack(columns, dim=1).cpu().numpy()
    return pixels
