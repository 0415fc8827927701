"""What each file of a finished run is, in a few words; docs/outputs.md says more."""

from __future__ import annotations

from collections.abc import Iterable

CONTENTS = {
    "report.html": "the whole run on one page",
    "results.txt": "the results as plain text",
    "results.json": "every number of the run",
    "history.csv": "one line an epoch of the final training",
    "trials.csv": "one line a trial of the search",
    "per_class.csv": "one line a class",
    "test_predictions.csv": "the answer for each test image",
    "training_curves.png": "loss and accuracy of the final training",
    "augmented.png": "training images as augmentation changed them",
    "tuning.png": "validation loss against learning rate",
    "confusion_matrix.png": "true and predicted classes",
    "mistakes.png": "the most confident mistakes",
    "weights.pt": "the trained weights, a plain state_dict",
    "model.json": "what is needed beside the weights to use the model",
    "manifest.json": "size and SHA-256 of each file",
}


def listing(names: Iterable[str]) -> list[str]:
    """A line for each file there is, in the order of the documentation."""
    there = set(names)
    return [f"  {name:<22}{what}" for name, what in CONTENTS.items() if name in there]
