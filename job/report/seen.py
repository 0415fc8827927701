"""What the network looked at, as the page shows it: heats laid over images, and a sentence for each method."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from job.report.answers import Answers

MOST = 24  # classes of which a right image is shown
SMALL = 96  # pixels a side from which on a picture is thinned: it is shown no larger
WORDS = {
    "rollout": "Bright is what the class token attends to through all layers (attention rollout, Abnar and Zuidema "
    "2020); attention tells where information came from, not for or against which class.",
    "layercam": "Bright is where the last convolution that still has seven places a side spoke for the answer that was "
    "given (LayerCAM, Jiang and others 2021).",
    "gradient": "Bright are the pixels whose change would change the answer's logit most (input gradient, Simonyan and "
    "others 2013); a network without convolutions looks at all of them, so this is grainy.",
    "": "None of the methods (attention rollout, LayerCAM, input gradient) fits the layers of this model: there is "
    "no heat.",
}


@dataclass(frozen=True, eq=False)
class Seen:
    """`method` is a key of WORDS. `mistakes` are heats from 0 to 1 of the evaluation's mistakes, float32 `[mistakes,
    rows, columns]`; `right` those of the test images `rows`, of which `images` are the pixels, uint8.
    """

    method: str
    mistakes: NDArray[np.float32]
    rows: tuple[int, ...]
    images: NDArray[np.uint8]
    right: NDArray[np.float32]


def right_rows(answers: Answers, classes: int) -> tuple[int, ...]:
    """Of each of the first MOST classes the test image that was answered rightly and most surely, if there is one."""
    rows = []
    for each in range(min(classes, MOST)):
        found = np.flatnonzero(answers.right & (answers.true == each))
        if len(found):
            rows.append(int(found[answers.confidence[found].argmax()]))
    return tuple(rows)


def overlay(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The image in grey under its heat, black over red and yellow to white; uint8 `[rows, columns, 3]`."""
    step = max(1, len(pixels) // SMALL)
    grey = pixels[::step, ::step].mean(axis=2, keepdims=True) / 255
    hot = np.clip(3 * heat[::step, ::step, None].astype(np.float64) - np.array([0, 1, 2]), 0, 1)
    mixed: NDArray[np.uint8] = np.rint(255 * (0.45 * grey + 0.55 * hot)).astype(np.uint8)
    return mixed
