"""Runs made by hand, large enough to fill a page."""

from __future__ import annotations

import math

import numpy as np

from job.report import metrics
from job.report.answers import answers_of
from job.report.comparison import Run
from job.report.records import RunReport
from job.results import Choice, Epoch, Score, Trial

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "<i>ship</i> & sail", "truck")


def epoch(number: int, loss: float, seconds: float = 12.5) -> Epoch:
    return Epoch(number, Score(loss, 60.0 + number), Score(loss + 0.05, 58.0 + number), seconds)


def trial(number: int, rate: float, floor: float, epochs: int) -> Trial:
    """Falls towards `floor` and rises again after two thirds of its epochs."""
    turn = math.ceil(epochs * 2 / 3)
    losses = [floor + 1.2 / n if n <= turn else floor + 1.2 / turn + 0.04 * (n - turn) for n in range(1, epochs + 1)]
    return Trial(number, rate, tuple(epoch(n, loss) for n, loss in enumerate(losses, 1)))


def run_report(count: int = 400, classes: tuple[str, ...] = CLASSES, seed: int = 0) -> RunReport:
    """A run with eight trials, one of them diverged, and a model that is right about half the time."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, len(classes), count)
    logits = (rng.normal(size=(count, len(classes))) * 1.3 + 2.2 * np.eye(len(classes))[labels]).astype(np.float32)
    names = [f"test/{classes[label]}/DSC_{number:05}.jpg" for number, label in enumerate(labels)]
    answers = answers_of(logits, labels, names)
    evaluation = metrics.evaluate(answers, classes)
    diverged = Trial(3, 0.0171, (epoch(1, 2.5), epoch(2, math.nan)), "the loss diverged in epoch 2")
    rates = (0.00006, 0.00021, 0.0024, None, 0.0008, 0.00043, 0.0061, 0.0105)
    trials = tuple(
        diverged if rate is None else trial(number, rate, 0.8 + 0.4 * abs(math.log10(rate / 0.0005)), 12 - number % 3)
        for number, rate in enumerate(rates)
    )
    accuracy = 100 * evaluation.accuracy
    history = tuple(
        Epoch(n, Score(2.2 / n**0.5, accuracy - 2 + n), Score(2.0 / n**0.5, accuracy - 8 + n), 31.4)
        for n in range(1, 9)
    )
    return RunReport(
        run_name="cnn-0123abcd",
        model="cnn",
        structure="Sequential()",
        parameters=1_147_914,
        batch_size=128,
        choice=Choice(0.00043, 8, 5),
        trials=trials,
        tuning_seconds=0.6 * sum(trial.seconds for trial in trials),  # some ran at the same time
        history=history,
        device="cpu (some processor, bf16)",
        settings={"MODEL": "cnn", "TUNE_MAX_EPOCHS": 12, "OUTPUT": "s3://bucket/prefix", "PRICE_PER_HOUR": 2.5},
        sources={
            "MODEL": "environment",
            "TUNE_MAX_EPOCHS": "environment",
            "OUTPUT": "environment",
            "PRICE_PER_HOUR": "default",
        },
        data={"name": "cifar10", "origin": "archive", "train_images": 50_000, "sha256": "ab" * 32},
        provenance={"git_commit": "12" * 20, "versions": {"python": "3.11", "cuda": None}, "precision": "bf16"},
        answers=answers,
        evaluation=evaluation,
        thumbnails=rng.integers(0, 256, (len(evaluation.mistakes), 32, 32, 3), dtype=np.uint8),
    )


def run(model: str, correct: int, images: int = 10_000, *, data: str = "ab" * 32, name: str = "") -> Run:
    share = correct / images
    return Run(
        name=name or f"{model}-0123abcd",
        model=model,
        dataset="cifar10",
        data_sha256=data,
        train_images=5 * images,
        images=images,
        correct=correct,
        loss=2 * (1 - share),
        parameters={"mlp": 1_707_274, "cnn": 1_147_914, "vit": 1_212_490}.get(model, 11_173_962),
        learning_rate=0.0005,
        epochs=9,
        tuning_seconds=600.0,
        training_seconds=100.0 * len(model) ** 1.5,
        hardware="some GPU",
        precision="bf16",
        recalls={name: (round(share * images / 10) - 3 * place, images // 10) for place, name in enumerate(CLASSES)},
    )


ALL_MODELS = (
    run("mlp", 5444),
    run("cnn", 7585),
    run("vit", 6990),
    run("resnet18", 8850),
    run("resnet18_pretrained", 8906),
    run("mlp", 61, 100, data="cd" * 32, name="tiny"),
)
