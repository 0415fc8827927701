"""Which steps there are, in the order of what is most worth knowing, and what each is told."""

from __future__ import annotations

from bench.gpu.steps import Step

MODELS = ("mlp", "cnn", "vit", "resnet18")
RUNS = ("mlp", "cnn", "resnet18")

# (step, what it does, seconds on a large card, seconds of a rehearsal on a CPU); limits are three times as long.
STEPS: tuple[tuple[str, str, float, float], ...] = (
    ("facts", "the card, its rates, the machine, the versions", 15, 4),
    *((f"replay-{name}", f"{name}: replayed steps against eager ones, two runs, resume", 15, 4) for name in MODELS),
    ("resume", "jobs killed with SIGKILL and resumed, and run twice: equal with torch.equal", 60, 20),
    ("speed", "the job's epoch against the notebook's loop and against its own limit", 90, 25),
    ("tests", "the engine's tests on this device", 60, 10),
    ("trials", "trials one after the other, as one batched model, over workers", 60, 8),
    *((f"run-{name}", f"a whole run of {name}, with its accuracy", 40, 6) for name in RUNS),
    ("sanitizer", "MODE=check under compute-sanitizer", 90, 1),
    ("bench", "all contenders of `make bench`", 150, 1),
)


def planned(names: list[str], options: tuple[str, ...], *, rehearse: bool) -> list[Step]:
    """The steps named (all, where none is), each told `options`."""
    unknown = set(names) - {name for name, *_ in STEPS}
    if unknown:
        raise ValueError(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(n for n, *_ in STEPS)}")
    return [
        Step(
            name, title, short if rehearse else long, 3 * (20 if rehearse else long), ("bench.gpu.work", name, *options)
        )
        for name, title, long, short in STEPS
        if not names or name in names
    ]
