"""The path that a GPU's steps take, on a machine without one (see `fake_cuda`): every model, precision and generation.

A row for each: no tensor on the CPU within a step, nothing that waits for the device, products in the precision that
was asked for, weights and Adam's state on the device in float32 and laid alike, also after a snapshot was put back; and
how many kernels a step launches, so that nothing creeps in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.engine import fake_cuda

pytestmark = pytest.mark.skipif(
    bool(fake_cuda.missing()), reason=f"SKIPPED, NOT TESTED: a fake GPU: {fake_cuda.missing()}"
)

MODELS = ("mlp", "cnn", "resnet18", "vit")
PRECISIONS = ("fp32", "bf16", "fp16")
DTYPES = {"fp32": "torch.float32", "bf16": "torch.bfloat16", "fp16": "torch.float16"}
# A step's kernels at most, of a learner alone by compute capability, and of a stack on any (there is none in fp16).
# Calls of ATen that launch something, views left out; of eight steps recorded as one, an eighth, rounded up.
# More in bf16 before 8.0: torch fuses neither attention nor batch norm for it there.
KERNELS = {
    #   model        precision      6.0  7.5  9.0    stack
    ("mlp", "fp32"): ({60: 25, 75: 25, 90: 25}, 47),
    ("mlp", "bf16"): ({60: 29, 75: 29, 90: 29}, 62),
    ("mlp", "fp16"): ({60: 40, 75: 40, 90: 40}, None),
    ("cnn", "fp32"): ({60: 49, 75: 50, 90: 50}, 117),
    ("cnn", "bf16"): ({60: 57, 75: 57, 90: 55}, 142),
    ("cnn", "fp16"): ({60: 66, 75: 66, 90: 66}, None),
    ("resnet18", "fp32"): ({60: 166, 75: 169, 90: 169}, 482),
    ("resnet18", "bf16"): ({60: 188, 75: 188, 90: 174}, 585),
    ("resnet18", "fp16"): ({60: 185, 75: 185, 90: 185}, None),
    ("vit", "fp32"): ({60: 165, 75: 165, 90: 165}, 425),
    ("vit", "bf16"): ({60: 302, 75: 302, 90: 197}, 540),
    ("vit", "fp16"): ({60: 208, 75: 208, 90: 208}, None),
}

# More than a plain step's at most: draws, and looking up pixels; TrivialAugment for the vit. Many small ones. Steps
# of a schedule are recorded one by one, on pixels, their weights in one row more.
STRONG_KERNELS = {"mlp": 110, "cnn": 110, "vit": 220}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fake_cuda")
    fake_cuda.compile_into(folder)
    return folder


def rows(folder: Path, capability: int, models: Sequence[str]) -> list[dict[str, Any]]:
    """What was seen, printed as a table for whoever runs the tests with -rP."""
    wanted = [f"{model}:{precision}" for model in models for precision in PRECISIONS]
    found = fake_cuda.rows_of(folder, capability, *wanted)
    for row in found:
        print(f"sm_{capability} {row['model']:9} {row['precision']} {row['kind']:6}", end=" ")
        print(f"kernels {row['kernels']:4} casts {row['casts']:4} evaluation {row['evaluation']:4}", end=" ")
        print(row["layout"], *row["attention"])
    kinds = {(row["model"], row["precision"], row["kind"]) for row in found}
    alone = {(model, precision, "alone") for model in models for precision in PRECISIONS}
    assert kinds == alone | {(*key[:2], "stack") for key in alone if KERNELS[key[:2]][1]}
    return found


def check(row: dict[str, Any], capability: int) -> None:
    where = f"{row['model']} in {row['precision']}, {row['kind']}, sm_{capability}"
    assert not row["odd"], where
    # Where torch fuses no attention for bf16, it writes it out in float32 (_scaled_dot_product_attention_math).
    written_out = (row["model"], row["precision"], row["kind"]) == ("vit", "bf16", "alone") and capability < 80
    assert row["products"] == ["torch.float32" if written_out else DTYPES[row["precision"]]], where
    assert bool(row["attention"]) == (row["model"] == "vit" and row["kind"] == "alone" and not written_out), where
    assert row["layout"] == ("contiguous" if capability < 70 and row["precision"] == "fp32" else "channels-last"), where
    alone, stack = KERNELS[row["model"], row["precision"]]
    limit = stack if row["kind"] == "stack" else alone[capability]
    assert limit is not None
    assert row["kernels"] <= limit, where


def test_the_page_has_these_counts() -> None:
    """docs/gpu.md, a line for each model and precision."""
    page = (ROOT / "docs" / "gpu.md").read_text()
    for (model, precision), (alone, stack) in KERNELS.items():
        cells = (f"`{model}`", precision, *(alone[capability] for capability in (60, 75, 90)), stack or "–")
        assert f"| {' | '.join(map(str, cells))} |\n" in page


def test_the_cuda_path_of_small_models(built: Path) -> None:
    for row in rows(built, 90, ("mlp", "cnn")):
        check(row, 90)


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("capability", [60, 75, 90])
def test_the_cuda_path_of_every_model(built: Path, capability: int) -> None:
    for row in rows(built, capability, MODELS):
        check(row, capability)


@pytest.mark.parametrize("model", [pytest.param(name, marks=pytest.mark.slow) for name in ("cnn", "mlp", "vit")])
def test_the_strong_recipe_on_a_gpu(built: Path, model: str) -> None:
    """Augmentation, schedule, SGD and AdamW: all of it on the device, nothing waits, weights and means lie alike."""
    for row in fake_cuda.rows_of(built, 90, *(f"{model}:{precision}:strong" for precision in PRECISIONS)):
        assert (row["kind"], row["odd"]) == ("strong", [])
        assert row["products"] == [DTYPES[row["precision"]]]
        print(f"{model} {row['precision']} strong: {row['kernels']} kernels")
        assert row["kernels"] <= KERNELS[model, row["precision"]][0][90] + STRONG_KERNELS[model]


@pytest.mark.slow
def test_faults_are_seen(built: Path) -> None:
    """What the watch is for, it finds: a step each with one fault more."""
    spoils = ("mlp:bf16:cpu", "mlp:bf16:wait", "mlp:bf16:product")
    on_cpu, waits, product = fake_cuda.rows_of(built, 90, *spoils)
    assert any("on the CPU" in odd for odd in on_cpu["odd"])
    assert any("DataDependent" in odd for odd in waits["odd"])
    assert product["products"] == ["torch.float32"]
    assert not product["odd"]
