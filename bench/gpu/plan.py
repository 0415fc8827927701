"""Which steps there are, in the order of what is most worth knowing, and what each is told."""

from __future__ import annotations

from bench.gpu.steps import Step

MODELS = ("mlp", "cnn", "vit", "resnet18")
RUNS = ("mlp", "cnn", "resnet18")

# (step, what it does, seconds on a large card)
STEPS: tuple[tuple[str, str, float], ...] = (
    ("facts", "the card, its rates, the machine, the versions", 12),
    *(
        (f"replay-{name}", f"{name}: replayed steps against eager ones, two runs, resume", seconds)
        for name, seconds in zip(MODELS, (14, 18, 30, 35), strict=True)
    ),
    ("resume", "jobs killed with SIGKILL and resumed, and run twice: equal with torch.equal", 45),
    ("stacks", "trials as one batched model: replayed, run twice, copied and put back", 25),
    ("speed", "the job's epoch against the notebook's loop and against its own limit", 90),
    ("tests", "the engine's tests on this device", 50),
    ("trials", "trials one after the other, as one batched model, over workers", 55),
    *(
        (f"run-{name}", f"a whole run of {name}, with its accuracy", seconds)
        for name, seconds in zip(RUNS, (30, 45, 30), strict=True)
    ),
    ("sanitizer", "MODE=check under compute-sanitizer", 60),
    ("bench", "all contenders of `make bench`", 150),
)
REHEARSED = 10.0  # seconds that any step of a rehearsal takes
LEAST_LIMIT = 90.0  # seconds: the first import of torch on a new machine takes a while
REHEARSAL_LIMIT = 600.0  # of a step, on a CPU that others use as well


def planned(names: list[str], options: tuple[str, ...], *, rehearse: bool) -> list[Step]:
    """The steps named (all, where none is), each told `options`."""
    unknown = set(names) - {name for name, *_ in STEPS}
    if unknown:
        raise ValueError(f"no such step: {', '.join(sorted(unknown))}; there are {', '.join(n for n, *_ in STEPS)}")
    return [
        Step(
            name,
            title,
            REHEARSED if rehearse else seconds,
            REHEARSAL_LIMIT if rehearse else max(LEAST_LIMIT, 2.5 * seconds),
            ("bench.gpu.work", name, *options),
        )
        for name, title, seconds in STEPS
        if not names or name in names
    ]
