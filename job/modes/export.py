"""`MODE=export`: a finished run's model as ONNX, by torch's own exporter, compared with torch before it is handed over.

The only importer of onnx and onnxruntime, which nothing else needs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from job.console.logs import event
from job.console.progress import Progress
from job.data import Split
from job.engine import classifier
from job.engine.classifier import Classifier
from job.errors import Fault
from job.interrupt import Stop
from job.runs import finished, lock, publish
from job.runs.finished import Finished
from job.settings import Settings

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
FILE, SIDECAR = "model.onnx", "model.onnx.json"
BATCH = 250
LIMIT = 1e-4  # of the largest logit; fp32 sums in another order differ by a hundredth of that


class Exported(nn.Module):
    """What the file computes: uint8 `[batch, rows, columns, RGB]` to float logits and probabilities, both
    `[batch, classes]`.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.classifier = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(images)
        return logits, torch.softmax(logits, dim=1)


@dataclass(frozen=True)
class Comparison:
    """Torch and ONNX Runtime on the same test set, both in fp32 on the CPU. `close_calls` counts the images whose two
    largest logits lie so near to each other that the greatest difference found could exchange them.
    """

    images: int
    greatest_difference: float
    largest_logit: float
    correct_torch: int
    correct_onnx: int
    other_answers: int
    close_calls: int


def run(settings: Settings, progress: Progress, stop: Stop) -> None:
    """Puts `model.onnx` and `model.onnx.json` beside the run's other files and into its manifest.

    Raises Fault where a package is missing or the exported model does not compute what torch computes.
    """
    check_packages()
    found = finished.find(settings, stop)
    about = finished.model(found)
    model = classifier.load(about, finished.read(found, finished.WEIGHTS))
    data = finished.data_of(found, settings, progress)
    event(
        "export",
        f"export {found.store.uri}: {about['model']} to ONNX, then {len(data.test):,} test images through both",
    )
    content, opset = to_onnx(model, int(about["image_size"]), properties(found, about))
    comparison = compare(model, content, data.test, stop.check)
    check(found, comparison)
    sidecar = (json.dumps(describe(found, about, opset, comparison), indent=2) + "\n").encode()
    with lock.held(found.store, stop) as held:
        publish.add(held.store, {FILE: content, SIDECAR: sidecar}, held.check)
    event(
        "finished",
        f"finished: {FILE} ({len(content) / 1e6:.1f} MB, opset {opset}) and {SIDECAR} are in {found.store.uri}; "
        f"{comparison.correct_onnx:,} of {comparison.images:,} test images right, as in torch"
        + (f" ({comparison.correct_torch:,})" if comparison.correct_torch != comparison.correct_onnx else "")
        + f"; logits differ by {comparison.greatest_difference:.1e} at most",
        uri=f"{found.store.uri}/{FILE}",
        **asdict(comparison),
    )


def check_packages() -> None:
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise Fault(
            f"MODE=export needs packages that are not installed: {', '.join(missing)}.",
            "Install them with `make install`, or with pip from requirements.lock.",
        )


def to_onnx(model: Classifier, side: int, properties: dict[str, str]) -> tuple[bytes, int]:
    """The model as an ONNX file, and its opset. Equal models give equal bytes; no path of this machine is in it."""
    import onnx

    example = torch.zeros(2, side, side, 3, dtype=torch.uint8)
    program = torch.onnx.export(
        Exported(model).eval(),
        (example,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits", "probabilities"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
    )
    assert program is not None
    proto = program.model_proto
    for part in (proto.graph, *proto.graph.node, *proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        del part.metadata_props[:]  # where in the code each node came from
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    onnx.helper.set_model_props(proto, properties)
    onnx.checker.check_model(proto, full_check=True)
    (opset,) = (entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return proto.SerializeToString(deterministic=True), opset


def properties(found: Finished, about: dict[str, Any]) -> dict[str, str]:
    """What travels inside the file, as ONNX has it: text by name."""
    return {
        "run": found.name,
        "model": str(about["model"]),
        "classes": json.dumps(about["classes"]),
        "image_size": str(about["image_size"]),
        "resize": str(about.get("resize", "squash")),
        "input": "uint8 RGB, [batch, rows, columns, 3]; the normalisation is part of the graph",
        "dataset": str(about["dataset"]),
        "data_sha256": str(about["data_sha256"]),
        "test_accuracy_percent": str(about["test"]["accuracy_percent"]),
    }


@torch.no_grad()
def compare(model: Classifier, content: bytes, test: Split, check: Callable[[], object]) -> Comparison:
    """Both on the whole test set, in batches whose sizes are not the one that was exported with."""
    ours, theirs = [], []
    for images, logits in answers(content, test):
        check()
        ours.append(model(images).numpy())
        theirs.append(logits)
    return compared(np.concatenate(ours), np.concatenate(theirs), test.labels.numpy())


def answers(content: bytes, test: Split) -> Iterator[tuple[Tensor, NDArray[np.float32]]]:
    """Images and ONNX Runtime's logits for them: first one image alone, then the rest in batches."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    starts = [0, *range(1, len(test), BATCH), len(test)]
    for start, end in pairwise(starts):
        images = test.images[start:end]
        yield images, session.run(["logits"], {"images": images.numpy()})[0]


def compared(ours: NDArray[np.float32], theirs: NDArray[np.float32], labels: NDArray[np.int64]) -> Comparison:
    """Both logits float32 `[images, classes]`, `labels` int64 `[images]`."""
    difference = float(np.abs(ours - theirs).max())
    two = np.sort(ours, axis=1)[:, -2:]
    mine, other = ours.argmax(axis=1), theirs.argmax(axis=1)
    return Comparison(
        images=len(labels),
        greatest_difference=difference,
        largest_logit=float(np.abs(ours).max()),
        correct_torch=int((mine == labels).sum()),
        correct_onnx=int((other == labels).sum()),
        other_answers=int((mine != other).sum()),
        close_calls=int((two[:, 1] - two[:, 0] <= 2 * difference).sum()),
    )


def check(found: Finished, comparison: Comparison) -> None:
    """Raises Fault where ONNX is not torch's model. An answer may differ only where two classes were equally likely."""
    limit = LIMIT * max(1.0, comparison.largest_logit)
    if not comparison.greatest_difference <= limit or comparison.other_answers > comparison.close_calls:
        raise Fault(
            f"{found.store.uri}: as ONNX the model computes something else: logits differ by up to "
            f"{comparison.greatest_difference:.2g} where {limit:.2g} is allowed, {comparison.other_answers:,} of "
            f"{comparison.images:,} answers are others. Nothing was stored.",
            "The model has a part that torch's exporter does not translate faithfully: write it in plain operations.",
        )


def describe(found: Finished, about: dict[str, Any], opset: int, comparison: Comparison) -> dict[str, Any]:
    """`model.onnx.json`."""
    size, classes = about["image_size"], about["num_classes"]
    return {
        "run": found.name,
        "model": about["model"],
        "classes": about["classes"],
        "input": {"name": "images", "type": "uint8", "shape": ["batch", size, size, 3], "colours": "RGB"},
        "outputs": {name: {"type": "float32", "shape": ["batch", classes]} for name in ("logits", "probabilities")},
        "resize": about.get("resize", "squash"),
        "opset": opset,
        "test": about["test"],
        "compared_with_torch": asdict(comparison),
        "versions": {"torch": torch.__version__, **{name: version(name) for name in PACKAGES}},
        "dataset": about["dataset"],
        "data_sha256": about["data_sha256"],
    }
