"""Many learners as one against each of them alone: the same numbers. In float64, where the rounding of other sums
stays below 1 in 1,000,000,000 over many steps; in float32 and bf16 over single ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from job import device, engine, models
from job.data import Split
from job.device import Compute
from job.device.precision import native_precisions
from job.engine import Course
from job.engine.build import Builder
from job.engine.learner import new_learner, new_model
from job.engine.schedule import Schedule
from job.engine.step import normalise
from job.results import Score
from job.search.stacked import epochs, proof, step
from job.search.stacked.architecture import architecture, runs_stacked
from job.search.stacked.draws import Draws, drawn
from job.search.stacked.optimizers import adam_step
from job.search.stacked.state import Part, State, fresh, joined, restored, snapshot
from job.search.stacked.step import Stack, forward
from job.seeds import seed_for
from tests.engine.test_engine import ignore, images
from tests.helpers import small_models
from tests.helpers.recipes import SGD, under
from tests.helpers.rounding import CLOSE, FP64
from tests.helpers.small_models import without_dropout

SEED = 7
RATES = (1e-3, 3e-4, 1e-4)
PARTS: tuple[Part, ...] = (("trial", 0), ("trial", 3), ("trial", 4))


@pytest.fixture(scope="module")
def cpu() -> Compute:
    return device.choose("cpu", "fp32")


SMALL = {name: partial(without_dropout, build) for name, build in small_models.MODELS.items()}
MODELS: dict[str, Callable[[], nn.Module]] = {
    name: partial(without_dropout, partial(models.find(name).build, 10)) for name in ("mlp", "cnn", "vit")
}
RECIPES = (
    {"optimizer": "sgd-nesterov", "rates": (0.01, 0.05), "augmentation": ("crop", "flip", "cutout")},
    {"optimizer": "adamw", "rates": (1e-4, 5e-4), "augmentation": ("shift", "flip", "mixup")},
    {"optimizer": "adam", "rates": (1e-4, 5e-4), "augmentation": ("trivial", "cutmix")},
)
WITH_DROPOUT = {name: small_models.MODELS[name] for name in ("convolutional", "transformer")}


def new_stack(build: Callable[[], nn.Module], compute: Compute, parts: Sequence[Part] = PARTS) -> Stack:
    kind = architecture(build, compute)
    state = joined([fresh(build, kind, compute, SEED, part) for part in parts])
    return Stack(kind, compute, SEED, list(zip(parts, RATES[-len(parts) :], strict=True)), state)


def run(stack: Stack, train: Split, heldout: Split, numbers: Sequence[int], batch: int) -> list[tuple[Score, Score]]:
    return epochs.epoch(stack, Course(train, heldout, batch, ignore), numbers)


def losses(scores: Sequence[tuple[Score, Score]]) -> list[float]:
    return [score.loss for pair in scores for score in pair]


# --- the same numbers ---


@pytest.mark.parametrize("name", [*SMALL, *MODELS])
def test_gradients_are_those_of_each_model_alone(name: str) -> None:
    """Losses, gradients, running statistics and evaluation."""
    torch.manual_seed(1)
    build = (SMALL | MODELS)[name]
    alike = [build().double() for _ in range(2)]
    batch, labels = torch.randn(2, 3, 3, 32, 32, dtype=torch.float64), torch.arange(6).view(2, 3)
    kind = architecture(build, FP64)
    weights = {
        key: torch.stack([dict(model.named_parameters())[key].detach() for model in alike]).requires_grad_()
        for key in kind.shapes
    }
    buffers = {key: torch.stack([dict(m.named_buffers())[key] for m in alike]) for key, _ in alike[0].named_buffers()}
    nothing = torch.empty(0)
    stack = Stack(
        kind,
        FP64,
        SEED,
        list(zip(PARTS[:2], RATES[:2], strict=True)),
        State(nothing, nothing, nothing, nothing, buffers),
    )

    kind.model.train()
    logits = forward(stack, weights, torch.empty(2, 0, dtype=torch.int16), batch, shared=False)
    each = functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").view(2, 3).mean(1)
    gradients = torch.autograd.grad(each.sum(), list(weights.values()))
    kind.model.eval()
    with torch.no_grad():
        evaluated = forward(stack, weights, None, batch[0], shared=True)

    for row, model in enumerate(alike):
        loss = functional.cross_entropy(model.train()(batch[row]), labels[row])
        loss.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(each[row], loss)
        for gradient, parameter in zip(gradients, model.parameters(), strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(gradient[row], parameter.grad, rtol=1e-9, atol=1e-11)
        for key, buffer in model.named_buffers():
            torch.testing.assert_close(buffers[key][row], buffer)
        torch.testing.assert_close(evaluated[row], model.eval()(batch[0]))


@pytest.mark.parametrize("name", list(SMALL))
def test_losses_follow_those_of_each_learner_alone(name: str) -> None:
    """Three epochs with an uneven last batch: training and validation losses."""
    build, train, heldout = SMALL[name], images(70), images(40, seed=1)
    stack = new_stack(build, FP64)
    together = [run(stack, train, heldout, [n] * 3, 32) for n in (1, 2, 3)]
    for row in range(3):
        learner = new_learner(build, RATES[row], FP64, SEED, PARTS[row])
        scores = engine.epochs(learner, engine.Course(train, heldout, 32), range(1, 4))
        expected = [(trained, held) for _, trained, held in scores]
        assert losses([epoch[row] for epoch in together]) == pytest.approx(losses(expected), rel=CLOSE)


@pytest.mark.parametrize(
    "fields", RECIPES, ids=lambda fields: f"{fields['optimizer']}-{'+'.join(fields['augmentation'])}"
)
def test_under_a_recipe_too(fields: dict[str, Any]) -> None:
    """Warm-up and cosine, weight decay, smoothing, class weights, augmented and mixed images; learner k is in its k-th
    epoch, and the last batch is short.
    """
    train, heldout = images(70), images(40, seed=1)
    build: Any = under(SMALL["convolutional"], SGD | fields)
    build.class_weights = tuple(1 + k / 10 for k in range(10))
    least, most = build.recipe.rates
    plans = [Schedule(peak, 3) for peak in (most, least, (least + most) / 2)]
    kind = architecture(build, FP64)
    alone = [new_learner(build, plan, FP64, SEED, part) for plan, part in zip(plans, PARTS, strict=True)]
    states = []
    for row, learner in enumerate(alone):
        one = Stack(kind, FP64, SEED, [(PARTS[row], plans[row])], fresh(build, kind, FP64, SEED, PARTS[row]))
        for number in range(1, row + 1):
            run(one, train, heldout, [number], 32)
            engine.train_epoch(learner, train, number, 32, ignore)
        states.append(one.state)
    stack = Stack(kind, FP64, SEED, list(zip(PARTS, plans, strict=True)), joined(states))
    together = run(stack, train, heldout, [1, 2, 3], 32)
    for row, learner in enumerate(alone):
        (_, *expected), *_ = engine.epochs(learner, Course(train, heldout, 32), range(row + 1, row + 2))
        assert losses([together[row]]) == pytest.approx([score.loss for score in expected], rel=CLOSE)
        assert [score.accuracy for score in together[row]] == [score.accuracy for score in expected]
        weights = torch.cat([dict(learner.model.named_parameters())[name].detach().flatten() for name in kind.shapes])
        torch.testing.assert_close(stack.state.weights[row], weights, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", [*SMALL, *MODELS])
def test_fp32_is_fp64_but_for_rounding(cpu: Compute, name: str) -> None:
    """One forward pass, which amplifies nothing: 24 bits are 1e-7, and what is asked for is a thousand times that."""
    build, split = (SMALL | MODELS)[name], images(8)
    rounded, exact = (epochs.evaluate(new_stack(build, compute), split, 32, ignore)[0] for compute in (cpu, FP64))
    torch.testing.assert_close(rounded, exact, rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", ["perceptron", "transformer"])
def test_bf16_is_as_close_as_bf16_is(name: str) -> None:
    """Gradients of one step, from Adam's mean: no further from those in float64 than twice those of a learner alone in
    bf16 (its 8 bits are 1 in 256; any CPU computes it, if only by emulation). Between layers activations are bf16.
    """
    build, split = SMALL[name], images(32)
    bf16 = replace(FP64, precision="bf16")

    def gradients(compute: Compute, seen: set[torch.dtype]) -> Tensor:
        stack = new_stack(build, compute)
        for module in stack.kind.model.modules():
            if isinstance(module, nn.Linear):
                module.register_forward_hook(lambda layer, inputs, output: seen.add(output.dtype))
        epochs.train_epoch(stack, split, [1, 1, 1], 32, ignore)
        return stack.state.mean.double()

    seen: set[torch.dtype] = set()
    exact, together = gradients(FP64, set()), gradients(bf16, seen)
    assert seen == {torch.bfloat16}
    for row in range(3):
        learner = new_learner(build, RATES[row], bf16, SEED, PARTS[row])
        engine.train_epoch(learner, split, 1, 32, ignore)
        states = [learner.optimizer.state[parameter]["exp_avg"] for parameter in learner.model.parameters()]
        alone = torch.cat([mean.double().flatten() for mean in states])
        off, allowed = ((mean - exact[row]).norm() / exact[row].norm() for mean in (together[row], alone))
        assert 0 < off < 2 * allowed


def test_adam_is_torchs_over_twenty_steps() -> None:
    """Each row at its own rate, one of them five steps ahead, against torch.optim.Adam's fused kernel."""
    torch.manual_seed(0)
    start, gradients = torch.randn(3, 50).double(), torch.randn(20, 3, 50) * 10.0 ** torch.arange(-4, 1).repeat(10)
    gradients = gradients.double()
    state = State(start.clone(), torch.zeros_like(start), torch.zeros_like(start), torch.zeros(3), {})
    update, rates = torch.zeros_like(start), torch.tensor(RATES, dtype=torch.float64)[:, None]
    rows = [start[row].clone().requires_grad_() for row in range(3)]
    optimizers = [torch.optim.Adam([row], lr=rate, fused=True) for row, rate in zip(rows, RATES, strict=True)]
    for gradient in gradients[:5]:  # learner 1 alone
        rows[1].grad = gradient[1]
        optimizers[1].step()
        one = state.rows([1])
        adam_step(one, update[1:2], gradient[1:2], rates[1:2])
        state = joined([state.rows([0]), one, state.rows([2])])
    for gradient in gradients:
        adam_step(state, update, gradient, rates)
        for row, optimizer, mine in zip(rows, optimizers, gradient, strict=True):
            row.grad = mine.clone()
            optimizer.step()
    assert state.steps.tolist() == [20, 25, 20]
    for row, mine in zip(rows, state.weights, strict=True):
        torch.testing.assert_close(mine, row.detach(), rtol=1e-12, atol=1e-14)


def test_new_learners_start_with_their_own_weights(cpu: Compute) -> None:
    build = partial(models.find("cnn").build, 10)
    stack = new_stack(build, cpu)
    views = stack.kind.views(stack.state.weights)
    for row, part in enumerate(PARTS):
        learner = new_learner(build, 1e-3, cpu, SEED, part)
        for name, parameter in learner.model.named_parameters():
            assert torch.equal(views[name][row], parameter)


def test_a_learner_that_diverges_leaves_the_others_alone(cpu: Compute) -> None:
    """One row full of infinities: the others' numbers are the same bit by bit."""
    build, train, heldout = small_models.convolutional, images(64), images(32)

    def scores(broken: bool) -> list[tuple[Score, Score]]:
        stack = new_stack(build, cpu)
        if broken:
            stack.state.weights[1] = float("inf")
        return run(stack, train, heldout, [1, 1, 1], 32)

    whole, hurt = scores(False), scores(True)
    assert not any(torch.isfinite(torch.tensor(losses([hurt[1]]))))
    assert [hurt[0], hurt[2]] == [whole[0], whole[2]]


# --- dropout ---


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    generator = torch.Generator().manual_seed(3)
    bits = drawn([generator], 1_000_000, torch.device("cpu"))[0]
    with Draws() as draws:
        draws.bits = bits
        dropped = functional.dropout(torch.ones(250_000), 0.1), functional.dropout(torch.ones(250_000), 0.5)
        assert torch.equal(functional.dropout(bits, 0.5, training=False), bits)
    for result, p in zip(dropped, (0.1, 0.5), strict=True):
        assert float((result == 0).float().mean()) == pytest.approx(p, abs=0.003)  # five standard deviations
        assert float(result.max()) == pytest.approx(1 / (1 - p), rel=1e-4)
        assert float(result.mean()) == pytest.approx(1, abs=0.006)
    assert draws.taken == 500_000
    for lag in (1, 2, 3, 4, 64):  # one word's four decisions, and neighbours: independent of each other
        first, second = (part.double() for part in (bits[:-lag], bits[lag:]))
        assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.005


def test_attention_written_out_is_torchs() -> None:
    torch.manual_seed(0)
    attention = nn.MultiheadAttention(24, 4, batch_first=True).double()
    x = torch.randn(3, 7, 24, dtype=torch.float64)
    expected = attention(x, x, x, need_weights=False)[0]
    with Draws():
        mine = attention(x, x, x, need_weights=False)[0]
        torch.testing.assert_close(mine, expected, rtol=1e-12, atol=1e-14)
        with pytest.raises(NotImplementedError, match="two sequences"):
            attention(x, x.clone(), x, need_weights=False)
        with pytest.raises(NotImplementedError, match="need_weights"):
            attention(x, x, x)


def test_a_batch_of_one_takes_no_outer_product() -> None:
    """A linear layer and its gradients, in float64; torch 2.14 would compile a kernel for the product on a GPU."""
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3).double(), torch.randn(1, 5, dtype=torch.float64, requires_grad=True)

    def results() -> list[Tensor]:
        y = layer(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]

    expected = results()
    with Draws(), torch.profiler.profile() as seen:
        mine = results()
    for one, other in zip(mine, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert not {event.key for event in seen.key_averages()} & {"aten::mm", "aten::addmm", "aten::bmm"}


@pytest.mark.parametrize("name", list(WITH_DROPOUT))
def test_dropout_depends_on_the_learner_and_the_epoch_alone(name: str) -> None:
    """The same learner in other company, at another place, draws the same: its losses agree as without dropout."""
    build, train, heldout = WITH_DROPOUT[name], images(48), images(20)
    together = run(new_stack(build, FP64), train, heldout, [1, 1, 1], 32)
    pair = new_stack(build, FP64, PARTS[1:])
    apart = run(pair, train, heldout, [1, 1], 32)
    assert losses(apart) == pytest.approx(losses(together[1:]), rel=CLOSE)
    other = run(new_stack(build, FP64), train, heldout, [2, 2, 2], 32)
    for mine, theirs in zip(together, other, strict=True):
        assert losses([mine]) != pytest.approx(losses([theirs]), rel=1e-4), "another epoch draws otherwise"


class Bits:
    """One learner's dropout decisions of a batch, handed out in the order in which its layers ask."""

    left = torch.empty(0, dtype=torch.int16)

    def drop(self, x: Tensor, p: float) -> Tensor:
        """Dropped is what draws one of the lowest p * 65,536 numbers; what is kept makes up for it."""
        mine, self.left = self.left[: x.numel()].view(x.shape), self.left[x.numel() :]
        dropped = round(p * 65_536)
        return x * (mine.int() + 32_768 >= dropped) * (65_536 / (65_536 - dropped))


class DropoutByBits(nn.Module):
    def __init__(self, p: float, bits: Bits) -> None:
        super().__init__()
        self.p, self.bits = p, bits

    def forward(self, x: Tensor) -> Tensor:
        return self.bits.drop(x, self.p)


class AttentionByBits(nn.Module):
    """Self-attention one head after the other, its weights dropped by bits."""

    def __init__(self, torchs: nn.MultiheadAttention, bits: Bits) -> None:
        super().__init__()
        self.torchs, self.bits = torchs, bits

    def forward(self, x: Tensor, *_: Tensor, **options: object) -> tuple[Tensor, None]:
        heads, each = self.torchs.num_heads, self.torchs.head_dim
        query, key, value = functional.linear(x, self.torchs.in_proj_weight, self.torchs.in_proj_bias).chunk(3, dim=-1)
        parts = [slice(head * each, (head + 1) * each) for head in range(heads)]
        scores = [query[..., part] @ key[..., part].transpose(-2, -1) / each**0.5 for part in parts]
        weights = self.bits.drop(torch.stack(scores, dim=1).softmax(dim=-1), self.torchs.dropout)
        mixed = [weights[:, head] @ value[..., part] for head, part in enumerate(parts)]
        return self.torchs.out_proj(torch.cat(mixed, dim=-1)), None


def by_bits(model: nn.Module, bits: Bits) -> nn.Module:
    """The model with its dropout written out, alone and without vmap."""
    for name, module in list(model.named_children()):
        if isinstance(module, nn.MultiheadAttention):
            setattr(model, name, AttentionByBits(module, bits))
        else:
            other = DropoutByBits(module.p, bits) if isinstance(module, nn.Dropout) else by_bits(module, bits)
            setattr(model, name, other)
    return model


@pytest.mark.parametrize("name", list(WITH_DROPOUT))
def test_dropout_is_that_of_its_bits_written_out(name: str) -> None:
    """Two epochs of each learner alone, in a plain loop with every dropout spelled out: the same training losses."""
    build, train, heldout = WITH_DROPOUT[name], images(50), images(10)
    stack = new_stack(build, FP64)
    together = [run(stack, train, heldout, [n] * 3, 32) for n in (1, 2)]
    for row, part in enumerate(PARTS):
        bits = Bits()
        model = by_bits(new_model(build, SEED, part), bits).double().train()
        optimizer = torch.optim.Adam(model.parameters(), RATES[row])
        for number, scores in enumerate(together, 1):
            seed = partial(seed_for, SEED, *part, "epoch", number)
            order, dropout = (torch.Generator().manual_seed(seed(what)) for what in ("order", "dropout"))
            total = 0.0
            for rows in torch.randperm(50, generator=order).split(32):
                bits.left = drawn([dropout], stack.kind.draws * len(rows), torch.device("cpu"))[0]
                logits = model(normalise(train.images[rows], torch.float64))
                loss = functional.cross_entropy(logits, train.labels[rows])
                assert len(bits.left) == 0, "every decision has been asked for"
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                total += loss.item() * len(rows)
            assert scores[row][0].loss == pytest.approx(total / 50, rel=CLOSE)


# --- states ---


def test_a_stack_goes_on_bit_by_bit(cpu: Compute) -> None:
    """Through a copy, with a learner that left and one that came: the same as without the copy."""
    build, train, heldout = small_models.convolutional, images(48), images(20)
    stack = new_stack(build, cpu)
    run(stack, train, heldout, [1, 1, 1], 32)
    copied = snapshot(stack.state)
    straight = run(stack, train, heldout, [2, 2, 2], 32)
    again = Stack(stack.kind, cpu, SEED, list(zip(PARTS, RATES, strict=True)), restored(copied, cpu))
    assert run(again, train, heldout, [2, 2, 2], 32) == straight


def test_what_does_not_run_stacked(cpu: Compute) -> None:
    assert all(runs_stacked(models.find(name).build(10), cpu) for name in ("mlp", "cnn", "vit", "resnet18"))
    assert not runs_stacked(nn.Sequential(nn.Linear(3, 3), nn.LSTM(3, 3)), cpu)
    assert not runs_stacked(models.find("mlp").build(10), replace(cpu, precision="fp16"))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layer(x.flatten(1))
        return logits + torch.randn_like(logits)


def test_randomness_that_learners_would_share_is_refused(cpu: Compute) -> None:
    with pytest.raises(RuntimeError, match="random"):
        run(new_stack(Noisy, cpu), images(8), images(8), [1, 1, 1], 8)


def test_the_proof_finds_what_is_wrong(cpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    for build in (partial(small_models.perceptron, 3), small_models.convolutional):
        assert proof.fault_of(build, cpu) == ""
    assert "andom" in proof.fault_of(Noisy, cpu)
    real = step.optimizer_step
    for wrong in (
        lambda kind, state, update, gradients, rates: real(kind, state, update, -gradients, 100 * rates),
        lambda kind, state, update, gradients, rates: state.weights.fill_(float("nan")),
    ):
        monkeypatch.setattr(step, "optimizer_step", wrong)
        assert "alone" in proof.fault_of(small_models.perceptron, cpu)


def test_the_counts_behind_the_memory_estimate(cpu: Compute) -> None:
    cnn = architecture(partial(models.find("cnn").build, 10), cpu)
    assert (cnn.parameters, cnn.draws) == (models.find("cnn").PARAMETERS, 512)
    vit = architecture(partial(models.find("vit").build, 10), cpu)
    tokens, width = 65, 192
    layer = 8 * tokens**2 + 2 * tokens * width + tokens * 384  # attention, after it, in and after the feed-forward
    assert vit.draws == 4 * layer + tokens * width
    mlp = architecture(partial(models.find("mlp").build, 10), cpu)
    assert mlp.activations == 4 * (3072 + 2 * 512 + 2 * 256), "each layer's input, and each ReLU's output"
    assert cnn.activations > 4 * 3 * (32 * 32**2 + 64 * 16**2 + 128 * 8**2), "conv, batch norm and ReLU of each block"


# --- on a real GPU ---

needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="SKIPPED, NOT TESTED: needs an NVIDIA GPU, and there is none here"
)


@needs_gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", ["mlp", "cnn", "vit", "resnet18"])
def test_on_a_gpu_nothing_is_wrong_with_a_stack(name: str, precision: str) -> None:
    """As written, as replayed, and each learner alone; vmap has its own rules on a GPU, batch norm's among them."""
    if precision not in native_precisions(torch.device("cuda", 0)):
        pytest.skip(f"SKIPPED, NOT TESTED: this GPU has no {precision}")
    assert proof.fault_of(partial(models.find(name).build, 10), device.choose("cuda", precision)) == ""


@needs_gpu
@pytest.mark.parametrize("name", list(WITH_DROPOUT))
def test_on_a_gpu_replayed_stacks_give_the_bits_of_written_ones(name: str) -> None:
    """Two epochs with dropout; the last batch is one image."""
    compute = device.choose("cuda", "fp32")
    train, heldout = (split.to(compute.device) for split in (images(6 * 16 + 1), images(20)))
    states = []
    for replayed in (True, False):
        stack = new_stack(WITH_DROPOUT[name], compute)
        stack.full_step = stack.full_step if replayed else None
        for number in (1, 2):
            run(stack, train, heldout, [number] * 3, 16)
        states.append(snapshot(stack.state))
    assert torch.equal(states[0]["weights"], states[1]["weights"])
    assert all(torch.equal(states[0]["buffers"][key], buffer) for key, buffer in states[1]["buffers"].items())
    assert bool(states[0]["weights"].isfinite().all())


def test_classes_count_in_a_stack_as_in_each_learner_alone() -> None:
    """CLASS_WEIGHTS=balanced, in float64 over many steps."""
    train, heldout = images(96), images(40, 5)
    build = Builder("mlp", 10, class_weights=tuple(1 + number / 3 for number in range(10)))
    together = run(new_stack(build, FP64), train, heldout, [1, 1, 1], 32)
    plain = run(new_stack(Builder("mlp", 10), FP64), train, heldout, [1, 1, 1], 32)
    for row, part in enumerate(PARTS):
        learner = new_learner(build, RATES[row], FP64, SEED, part)
        ((_, trained, judged),) = engine.epochs(learner, Course(train, heldout, 32, ignore), range(1, 2))
        assert losses([together[row]]) == pytest.approx([trained.loss, judged.loss], rel=CLOSE)
        assert together[row][0].loss != pytest.approx(plain[row][0].loss, rel=1e-3)
