"""What a run's model looked at in its mistakes, and in one right image of each class."""

from __future__ import annotations

import numpy as np
import torch

from job.data import Split
from job.engine import attribution
from job.engine.classifier import Classifier
from job.report.answers import Answers
from job.report.metrics import Evaluation
from job.report.seen import Seen, right_rows


def seen(model: Classifier, test: Split, answers: Answers, evaluation: Evaluation) -> Seen:
    """On the CPU in fp32, whatever the model was trained on; heats are those of the answers that were given."""
    wrong = [mistake.row for mistake in evaluation.mistakes]
    right = right_rows(answers, len(evaluation.per_class))
    rows = [*wrong, *right]
    images = test.images[rows].cpu()
    method, heats = attribution.heats(model, images, torch.from_numpy(answers.predicted[rows].astype(np.int64)))
    split = len(wrong)
    return Seen(method, heats[:split], right, images[split:].numpy(), heats[split:])
