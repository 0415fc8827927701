"""Dropout and attention with cheap random bits against torch's own, the precision's probe, and threads by quota."""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from job import device, models
from job.device import Compute, attention, cgroup, convolution, dropout, memory, precision, products
from job.device.kernels import quicken
from job.errors import Fault
from tests.helpers.rounding import CLOSE
from tests.helpers.small_models import without_dropout


@pytest.fixture(scope="module")
def bf16() -> Compute:
    """Quick kernels; any CPU can compute bf16, if only by emulation."""
    return replace(device.choose("cpu", "fp32"), precision="bf16", kernels="quick")


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("count", [1, 1_000_003])
def test_masks_drop_the_share_they_should(p: float, count: int) -> None:
    torch.manual_seed(1)
    mask = dropout.draw_mask(count, p)
    assert mask.shape == (count,)
    assert set(mask.unique().tolist()) <= {0, -1}
    deviation = math.sqrt(p * (1 - p) / count)
    assert float((mask == 0).double().mean()) == pytest.approx(p, abs=5 * deviation + 1 / dropout.LEVELS)


def test_neighbouring_elements_are_dropped_independently() -> None:
    torch.manual_seed(2)
    kept = (dropout.draw_mask(1 << 20, 0.3) != 0).double() - 0.7
    for distance in (1, 2, 3, 4, 8, 65, 4096):
        correlation = float((kept[:-distance] * kept[distance:]).mean() / (0.3 * 0.7))
        assert abs(correlation) < 5 / math.sqrt(1 << 20), distance


def test_the_scale_is_that_of_the_share_really_dropped() -> None:
    for p in (0.0, 0.1, 0.123456, 0.5):
        dropped = dropout.levels_dropped(p) / dropout.LEVELS
        assert abs(dropped - p) <= 0.5 / dropout.LEVELS
        assert (1 - dropped) * dropout.scale_of(p) == pytest.approx(1, rel=1e-12)
    assert dropout.scale_of(1.0) == 0


def test_the_global_seed_governs_masks() -> None:
    def two(seed: int) -> list[Tensor]:
        torch.manual_seed(seed)
        return [dropout.draw_mask(5000, 0.5), dropout.draw_mask(5000, 0.5)]

    first, again, other = two(3), two(3), two(4)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], other[0])


def test_dropout_and_its_gradient(bf16: Compute) -> None:
    module, x = nn.Dropout(0.1), torch.ones(200, 300, requires_grad=True)
    quicken(module)
    with bf16.autocast():
        y = module(x)
    assert y.dtype == torch.bfloat16
    scale = torch.tensor(dropout.scale_of(0.1)).bfloat16()
    assert torch.equal(y.unique(), torch.stack([torch.zeros_like(scale), scale]))
    y.backward(torch.ones_like(y))
    assert torch.equal(x.grad, y.detach().float()), "what was dropped has no gradient, what was kept has the scale"


def test_dropout_is_off_in_evaluation(bf16: Compute) -> None:
    module, x = quicken(nn.Dropout(0.5)).eval(), torch.randn(50, 50)
    assert torch.equal(module(x), x)
    with bf16.autocast():
        assert torch.equal(module(x), x.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_without_autocast_dropout_is_a_product_in_its_own_dtype(dtype: torch.dtype) -> None:
    """The same elements as the bits of the same seed, each times the scale; the gradient is the factor itself."""
    module = quicken(nn.Dropout(0.3))
    x = torch.randn(1000, dtype=torch.float64).to(dtype).requires_grad_()
    torch.manual_seed(5)
    y = module(x)
    torch.manual_seed(5)
    kept = dropout.draw_mask(1000, 0.3) != 0
    factors = kept.to(dtype) * dropout.scale_of(0.3)
    assert y.dtype == dtype
    assert torch.equal(y, x * factors)
    y.sum().backward()
    assert torch.equal(x.grad, factors)


@pytest.mark.parametrize("p", [0.0, 0.3])
def test_attentions_gradient_is_that_of_its_finite_differences(p: float) -> None:
    torch.manual_seed(0)
    projected = torch.randn(3, 5, 12, dtype=torch.float64, requires_grad=True)
    mask = dropout.draw_mask(3 * 2 * 25, p) if p else None
    assert torch.autograd.gradcheck(
        lambda x: attention.SelfAttention.apply(x, 2, mask, dropout.scale_of(p)), (projected,)
    )


def test_attention_is_torchs_own_without_dropout() -> None:
    """In float64, through autograd: output and all gradients of a MultiheadAttention at the transformer's sizes."""
    torch.manual_seed(0)
    theirs = nn.MultiheadAttention(192, 8, dropout=0.0, batch_first=True).double()
    mine = deepcopy(theirs)
    x = torch.randn(4, 65, 192, dtype=torch.float64)
    direction = torch.randn(4, 65, 192, dtype=torch.float64)
    expected, _ = theirs(x, x, x, need_weights=False)
    (expected * direction).sum().backward()
    projected = nn.functional.linear(x, mine.in_proj_weight, mine.in_proj_bias)
    attended = attention.SelfAttention.apply(projected, 8, None, 1.0)
    result = nn.functional.linear(attended, mine.out_proj.weight, mine.out_proj.bias)
    (result * direction).sum().backward()
    torch.testing.assert_close(result, expected, rtol=CLOSE, atol=CLOSE)
    for one, other in zip(mine.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=CLOSE, atol=CLOSE)


def test_attention_drops_weights_as_written_out() -> None:
    """softmax, mask, scale and product one by one, with the same mask."""
    torch.manual_seed(0)
    projected = torch.randn(2, 7, 24, dtype=torch.float64)
    mask = dropout.draw_mask(2 * 2 * 49, 0.4)
    scale = dropout.scale_of(0.4)
    query, key, value = projected.view(2, 7, 3, 2, 4).permute(2, 0, 3, 1, 4)
    weights = (query @ key.transpose(-1, -2) / 2).softmax(-1) * (mask.view(2, 2, 7, 7) != 0) * scale
    expected = (weights @ value).transpose(1, 2).reshape(2, 7, 8)
    torch.testing.assert_close(attention.SelfAttention.apply(projected, 2, mask, scale), expected, rtol=0, atol=1e-12)


def test_attention_with_more_than_plain_self_attention_is_torchs_own(bf16: Compute) -> None:
    module = quicken(nn.MultiheadAttention(16, 2, batch_first=True).eval())
    plain = deepcopy(module)
    del plain.forward  # the one of the class again
    x, other = torch.randn(2, 5, 16), torch.randn(2, 6, 16)
    with bf16.autocast():
        for arguments, options in (
            ((x, other, other), {"need_weights": False}),
            ((x, x, x), {}),
            ((x, x, x), {"need_weights": False, "attn_mask": torch.ones(5, 5, dtype=torch.bool).triu(1)}),
        ):
            for mine, theirs in zip(module(*arguments, **options), plain(*arguments, **options), strict=True):
                assert mine is theirs is None or torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "vit"])
def test_quick_kernels_leave_the_model_as_it_was(name: str, bf16: Compute) -> None:
    """Keys, printed structure and evaluation (to bf16's rounding); plain kernels are those of torch's modules."""
    torch.manual_seed(0)
    model = models.find(name).build(10)
    quick = bf16.place(deepcopy(model)).eval()
    assert list(quick.state_dict()) == list(model.state_dict())
    assert str(quick) == str(model)
    assert [key for key, _ in quick.named_parameters()] == [key for key, _ in model.named_parameters()]
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), bf16.autocast():
        logits = quick(x).float()
    with torch.no_grad():
        exact = model.eval()(x)
    assert float((logits - exact).norm() / exact.norm()) < 0.05
    plain = replace(bf16, precision="fp32", kernels="plain").place(deepcopy(model))
    assert not any("forward" in vars(module) for module in plain.modules())


def test_fp64_is_for_proofs_alone() -> None:
    """No device's native precision, so that no PRECISION reaches it; what is handed it keeps all of its 53 bits."""
    with pytest.raises(Fault, match="PRECISION=fp64 is not native"):
        device.choose("cpu", "fp64")
    compute = replace(device.choose("cpu", "fp32"), precision="fp64")
    model, x = compute.place(models.find("cnn").build(10)), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    with compute.autocast():
        assert model(x).dtype == torch.float64
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float64, torch.int64}
    assert not compute.scaler().is_enabled()


@pytest.mark.parametrize("whose", [products.TORCHS, products.ONEDNNS])
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet18", "vit"])
def test_quick_fp32_lies_as_near_to_float64_as_torchs(name: str, whose: str) -> None:
    """A training pass without dropout: the loss and every gradient, and the answers in evaluation. Both are compared
    with the same model in float64: other sums of 24 bits each, with room for one that is lucky.
    """
    torch.manual_seed(0)
    plain = without_dropout(partial(models.find(name).build, 10)).to(memory_format=torch.channels_last)
    images, labels = torch.randn(6, 3, 32, 32), torch.arange(6)

    def results(model: nn.Module, x: Tensor) -> list[Tensor]:
        loss = nn.functional.cross_entropy(model.train()(x), labels)
        loss.backward()
        with torch.no_grad():
            return [loss.detach(), *(weight.grad for weight in model.parameters()), model.eval()(x)]

    exact = results(deepcopy(plain).double(), images.double())
    quick = results(quicken(deepcopy(plain), whose), images)
    torchs = results(plain, images)
    for one, other, true in zip(quick, torchs, exact, strict=True):
        assert one.dtype == torch.float32
        assert (one - true).norm() <= 3 * (other - true).norm() + 1e-5 * exact_scale(true)


def exact_scale(true: Tensor) -> float:
    """The size of what rounding is a share of; biases before a batch norm have gradients that are rounding alone."""
    return max(float(true.norm()), 1e-2)


def test_fp32_is_quick_and_keeps_whose_products_it_began_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "probe", lambda: 2.1)
    first = device.choose("cpu", "fp32")
    assert (first.kernels, first.products) == ("quick", "onednn")
    monkeypatch.setattr(products, "probe", lambda: 1.1)
    assert device.choose("cpu", "fp32").products == "torch"
    assert device.choose("cpu", "fp32", first.arithmetic()) == first, "a run goes on as it began, without a probe"


def test_the_products_probe_leaves_everything_as_it_was() -> None:
    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    assert products.probe() > 0
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_other_products_are_those_of_the_layer_as_written_out() -> None:
    """A layer of three axes, with and without a bias and where the input needs no gradient, against float64."""
    torch.manual_seed(0)
    for biased, learning in ((True, True), (False, True), (True, False)):
        layer, x = nn.Linear(17, 5, bias=biased), torch.randn(2, 3, 17, requires_grad=learning)
        exact, y = deepcopy(layer).double(), x.detach().double().requires_grad_()
        quicken(layer, products.ONEDNNS)(x).square().sum().backward()
        exact(y).square().sum().backward()
        for mine, true in zip(layer.parameters(), exact.parameters(), strict=True):
            torch.testing.assert_close(mine.grad.double(), true.grad, rtol=1e-4, atol=1e-4)
        if learning:
            torch.testing.assert_close(x.grad.double(), y.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_an_encoder_layer_is_torchs(first: bool, training: bool) -> None:
    """In float64, without dropout; with a mask it is torch's own, whatever it does."""
    torch.manual_seed(0)
    plain = nn.TransformerEncoderLayer(8, 2, 16, 0.0, batch_first=True, norm_first=first).double().train(training)
    quick, x = quicken(deepcopy(plain)), torch.randn(2, 5, 8, dtype=torch.float64)
    torch.testing.assert_close(quick(x), plain(x), rtol=CLOSE, atol=CLOSE)
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    assert torch.equal(quick(x, mask), plain(x, mask))


@pytest.mark.parametrize(
    ("speed", "error", "expected"),
    [(3.0, 0.003, "bf16"), (1.1, 0.003, "fp32"), (9.0, 0.5, "fp32"), (9.0, math.nan, "fp32")],
)
def test_the_probes_verdict(speed: float, error: float, expected: str) -> None:
    assert precision.judge(speed, error) == expected


def test_the_probe_sees_roundings_size_and_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "ROUNDS", 1)  # emulated bf16 takes its time
    torch.manual_seed(0)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    speed, error = precision.probe()
    assert speed > 0
    assert 0.001 < error < 0.01
    assert torch.equal(before, torch.get_rng_state())
    assert torch.get_num_threads() == threads


def test_what_a_run_chose_is_kept_without_a_new_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "native_precisions", lambda where: ("fp32", "bf16"))
    monkeypatch.setattr(precision, "probe", lambda: (5.0, 0.003))
    first = device.choose("cpu", "auto")
    assert first.precision == "bf16"
    monkeypatch.setattr(precision, "probe", lambda: (0.5, 0.003))  # busier now: it would decide otherwise
    again = device.choose("cpu", "auto", first.arithmetic())
    assert again == first, "the reason as well: it is in the results"
    assert device.choose("cpu", "auto").precision == "fp32"
    explicit = device.choose("cpu", "fp32", first.arithmetic())
    assert explicit.precision == "fp32", "what was asked for is never replaced: the run is told that it differs"


def test_a_machine_without_the_kept_precision_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It computes in fp32, which the checkpoint's check then refuses to mix (exit code 78)."""
    monkeypatch.setattr(precision, "native_precisions", lambda where: ("fp32",))
    kept = {**device.choose("cpu", "fp32").arithmetic(), "precision": "bf16", "kernels": "quick"}
    assert device.choose("cpu", "auto", kept).arithmetic() != kept
    with pytest.raises(Fault, match="not native"):
        device.choose("cpu", "bf16", kept)


def test_threads_follow_the_containers_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        for quota, threads in ((None, 3), (8.0, 3), (1.5, 2), (0.1, 1)):
            torch.set_num_threads(3)
            monkeypatch.setattr(cgroup, "cpus", lambda quota=quota: quota)
            assert device.choose("cpu", "fp32").threads == threads
    finally:
        torch.set_num_threads(before)


def test_a_copy_of_a_quick_module_is_its_own(bf16: Compute) -> None:
    """What a copy computes depends on the copy's mode and weights, not on the original's."""
    module = quicken(nn.Dropout(0.5)).train()
    copied = deepcopy(module).eval()
    x = torch.ones(100)
    with bf16.autocast():
        assert torch.equal(copied(x), x.bfloat16())
        assert not torch.equal(module(x), x.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_behind_the_pool_gives_the_same_bits(dtype: torch.dtype) -> None:
    """Values and gradients, with many ties (few distinct values) and windows without any positive one."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.ReLU(), nn.MaxPool2d(2))
    quick = quicken(deepcopy(plain))
    assert "forward" in vars(quick)
    x = torch.randint(-4, 3, (4, 8, 10, 10)).to(dtype)
    one, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    expected, result = plain(one), quick(other)
    assert torch.equal(result, expected)
    direction = torch.randn_like(expected)
    expected.backward(direction)
    result.backward(direction)
    assert torch.equal(other.grad, one.grad)


@pytest.mark.parametrize(
    ("channels", "out", "size", "side", "stride", "padding"),
    [(3, 5, 4, 3, 1, 1), (2, 3, 8, 3, 2, 1), (4, 2, 7, 1, 2, 0), (2, 2, 5, 2, 1, 0), (1, 3, 6, 5, 3, 2)],
)
def test_unfolded_convolutions_are_torchs(
    channels: int, out: int, size: int, side: int, stride: int, padding: int
) -> None:
    """In float64: torch's own values and gradients."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, channels, size, size + 1, dtype=torch.float64, generator=generator)
    weight = torch.randn(out, channels, side, side, dtype=torch.float64, generator=generator)
    images, weight = (x.to(memory_format=torch.channels_last) for x in (images, weight))
    expected = torch.conv2d(images, weight, None, stride, padding)
    torch.testing.assert_close(convolution.Convolution.apply(images, weight, stride, padding), expected)
    torch.autograd.gradcheck(
        lambda x, w: convolution.Convolution.apply(x, w, stride, padding),
        (images.requires_grad_(), weight.requires_grad_()),
    )


def test_resnets_last_block_is_unfolded_and_right(bf16: Compute) -> None:
    """Quick bf16 lies about as far from the block in float64 as torch's bf16 does, in values and in every gradient."""
    torch.manual_seed(0)
    plain = models.find("resnet18").build(10).layer4.to(memory_format=torch.channels_last)
    x, direction = torch.randn(3, 256, 8, 8), torch.randn(3, 512, 4, 4)

    def results(layer: nn.Module, x: Tensor = x) -> list[Tensor]:
        y = layer(x)
        y.backward(direction.to(y.dtype))
        return [y.detach(), *(weight.grad for weight in layer.parameters() if weight.grad is not None)]

    exact = results(deepcopy(plain).double(), x.double())
    quick = quicken(deepcopy(plain))
    assert "forward" in vars(quick[0].conv1)
    with bf16.autocast():
        ours, torchs = results(quick), results(deepcopy(plain))
    for one, other, true in zip(ours, torchs, exact, strict=True):
        assert (one - true).norm() <= 1.5 * (other - true).norm() + 1e-6 * true.norm()


@pytest.mark.parametrize(
    "changed", [{"bias": True}, {"groups": 2}, {"dilation": 2}, {"padding_mode": "circular"}, {"padding": "same"},
                {"kernel_size": (3, 1)}, {"stride": (1, 2)}]
)  # fmt: skip
def test_other_convolutions_stay_torchs(changed: dict[str, Any]) -> None:
    module = nn.Conv2d(4, 4, **({"kernel_size": 3, "padding": 1, "bias": False} | changed))
    assert "forward" not in vars(quicken(module))


def test_modules_of_a_quick_sequence_stay_as_they_are_alone() -> None:
    """A model may take one of them out of the sequence, or have it there twice."""
    relu = nn.ReLU()
    plain = nn.Sequential(nn.Conv2d(1, 1, 1), relu, nn.MaxPool2d(2), nn.Conv2d(1, 1, 1), relu, relu, nn.Flatten())
    quick, x = quicken(deepcopy(plain)), torch.randn(2, 1, 4, 4)
    assert torch.equal(quick(x), plain(x))
    assert torch.equal(quick[1](torch.tensor([-1.0, 1.0])), torch.tensor([0.0, 1.0]))
    pooled = quick[2](torch.full((1, 1, 2, 2), -1.0))
    assert torch.equal(pooled, torch.full((1, 1, 1, 1), -1.0))


@pytest.mark.parametrize("most", [1 << 25, 1 << 30])
def test_freed_memory_is_kept_by_old_c_libraries_too(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that refuses a high threshold maps no block by itself, and hears of the rest all the same."""
    told: dict[int, int] = {}

    def mallopt(name: int, value: int) -> int:
        if name == memory.M_MMAP_THRESHOLD and value > most:
            return 0
        told[name] = value
        return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    monkeypatch.setattr(memory.sys, "platform", "linux")
    assert memory.keep_freed_memory()
    assert told.get(memory.M_MMAP_THRESHOLD) == 1 << 30 or told.get(memory.M_MMAP_MAX) == 0
    assert {memory.M_TRIM_THRESHOLD, memory.M_TOP_PAD} <= told.keys()
