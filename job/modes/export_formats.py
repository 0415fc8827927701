"""The forms in which a model leaves: a row each, with how it is written and how it is loaded again by its own runtime.

The only importer of onnx and onnxruntime. Whatever the form, uint8 RGB `[batch, rows, columns, 3]` goes in, any number
at a time: the normalisation is part of what is written.
"""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from job.engine.classifier import Classifier
from job.errors import Fault

Answer = Callable[[Tensor], NDArray[np.float32]]  # uint8 images to logits `[batch, classes]`


class Exported(nn.Module):
    """What a program computes: uint8 `[batch, rows, columns, RGB]` to float logits and probabilities, both
    `[batch, classes]`.
    """

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.classifier = model

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.classifier(images)
        return logits, torch.softmax(logits, dim=1)


@dataclass(frozen=True)
class Written:
    """A file's content, and what its sidecar says of this form beside what it says of all."""

    content: bytes
    facts: dict[str, Any]


@dataclass(frozen=True)
class Format:
    """`write` takes the model, the images' side and texts to travel inside; `load` a file's content and what builds the
    same model with fresh weights, for what holds weights alone.
    """

    name: str
    packages: tuple[str, ...]
    outputs: tuple[str, ...]
    write: Callable[[Classifier, int, Mapping[str, str]], Written]
    load: Callable[[bytes, Callable[[], Classifier]], Answer]
    suffix: str = ""
    quantised: bool = False  # its answers may differ, see `Comparison.fits`

    @property
    def file(self) -> str:
        return f"model.{self.suffix or self.name}"

    @property
    def sidecar(self) -> str:
        return f"{self.file}.json"

    def missing(self) -> list[str]:
        return [name for name in self.packages if find_spec(name) is None]


def example(side: int) -> tuple[Tensor]:
    return (torch.zeros(2, side, side, 3, dtype=torch.uint8),)


# ---- ONNX ----


def to_onnx(model: Classifier, side: int, properties: Mapping[str, str]) -> Written:
    """By torch's own exporter. Equal models give equal bytes; no path of this machine is in it."""
    import onnx

    program = torch.onnx.export(
        Exported(model).eval(),
        example(side),
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
    onnx.helper.set_model_props(proto, dict(properties))
    onnx.checker.check_model(proto, full_check=True)
    (opset,) = (entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx"))
    return Written(proto.SerializeToString(deterministic=True), {"opset": opset})


def from_onnx(content: bytes, fresh: Callable[[], Classifier]) -> Answer:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def answer(images: Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = session.run(["logits"], {"images": images.numpy()})[0]
        return logits

    return answer


def to_int8(model: Classifier, side: int, properties: Mapping[str, str]) -> Written:
    """The same with the weights of its matrix products in 8 bits, by ONNX Runtime's dynamic quantisation: their inputs
    are quantised as they come, which needs no images to calibrate by. Convolutions stay as they are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    prepared = {"onnx.quant.pre_process": "onnxruntime.quant"}  # what it would advise brings nothing here
    whole = to_onnx(model, side, dict(properties) | prepared)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "int8.onnx"
        proto = onnx.load_from_string(whole.content)
        quantize_dynamic(proto, file, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
        proto = onnx.load(file)
    onnx.helper.set_model_props(proto, dict(properties))
    return Written(proto.SerializeToString(deterministic=True), whole.facts)


# ---- torch.export ----


def to_pt2(model: Classifier, side: int, properties: Mapping[str, str]) -> Written:
    """A program of torch's own operations that `torch.export.load` takes without this job's code."""
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(Exported(model).eval(), example(side), dynamic_shapes=({0: batch},))
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)  # which names files of this machine
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={"about.json": json.dumps(dict(properties))})
    return Written(buffer.getvalue(), {})


def from_pt2(content: bytes, fresh: Callable[[], Classifier]) -> Answer:
    program = torch.export.load(io.BytesIO(content)).module()

    @torch.no_grad()
    def answer(images: Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = program(images)[0].numpy()
        return logits

    return answer


# ---- safetensors ----


def to_safetensors(model: Classifier, side: int, properties: Mapping[str, str]) -> Written:
    """The weights, with scale and shift of the normalisation among them; code for them is in this job."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    return Written(safetensors.torch.save(state, dict(properties)), {"tensors": len(state)})


def from_safetensors(content: bytes, fresh: Callable[[], Classifier]) -> Answer:
    model = fresh()
    model.load_state_dict(safetensors.torch.load(content))

    @torch.no_grad()
    def answer(images: Tensor) -> NDArray[np.float32]:
        logits: NDArray[np.float32] = model(images).numpy()
        return logits

    return answer


OF_ONNX = ("onnx", "onnxscript", "onnxruntime")
BOTH = ("logits", "probabilities")
FORMATS = {
    each.name: each
    for each in (
        Format("onnx", ("onnx", "onnxscript", "onnxruntime"), BOTH, to_onnx, from_onnx),
        Format(
            "onnx-int8", ("onnx", "onnxscript", "onnxruntime"), BOTH, to_int8, from_onnx, "int8.onnx", quantised=True
        ),
        Format("pt2", (), BOTH, to_pt2, from_pt2),
        Format("safetensors", ("safetensors",), BOTH[:1], to_safetensors, from_safetensors),
    )
}


def check_packages(formats: list[Format]) -> None:
    """Raises Fault that names every package that is not there."""
    missing = sorted({name for each in formats for name in each.missing()})
    if missing:
        raise Fault(
            f"MODE=export needs packages that are not installed: {', '.join(missing)}.",
            "Install them with `make install`, or with pip from requirements.lock.",
        )
