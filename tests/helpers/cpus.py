"""`make test-cpus`: the numerical tests as other processors compute them, and from start weights a rounding away.

torch, oneDNN and MKL choose their kernels by the processor, and can be told to choose those of an older one: other
vector lengths, other sums. What is on no list of processors is what three disturbances of the start weights stand for
(see `rounding`): where the last bits lead elsewhere, they do so here as well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from job.device.hardware import cpu_flags
from tests.conftest import ROOT

FILES = (
    "tests/device/test_adam.py",
    "tests/device/test_device.py",
    "tests/engine/test_engine.py",
    "tests/engine/test_graphs.py",
    "tests/models/test_models.py",
    "tests/report/test_metrics.py",
    "tests/search/test_batched.py",
    "tests/search/test_stacked.py",
    "tests/search/test_tune.py",
)


@dataclass(frozen=True)
class Case:
    """One run of the tests: what it stands for, its variables, and the flags that this processor needs for it."""

    name: str
    variables: dict[str, str]
    needs: frozenset[str] = field(default_factory=frozenset)


def processor(name: str, torchs: str, onednns: str, mkls: str, threads: int, *needs: str) -> Case:
    chosen = {"ATEN_CPU_CAPABILITY": torchs, "ONEDNN_MAX_CPU_ISA": onednns, "MKL_CBWR": mkls}
    several = {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "passive"}
    return Case(name, chosen | several, frozenset(needs))


AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
CASES = (
    processor("SSE4.1", "default", "SSE41", "COMPATIBLE", 1),
    processor("AVX2, two threads", "avx2", "AVX2", "AVX2", 2, "avx2", "fma"),
    processor("AVX-512", "avx512", "AVX512_CORE", "AVX512", 1, *AVX512),
    processor("AVX-512 with bf16, two threads", "avx512", "AVX512_CORE_BF16", "AUTO", 2, *AVX512, "avx512_bf16"),
    *(
        Case(f"start weights disturbed, draw {draw}", {"TEST_DISTURBANCE": str(draw), "OMP_NUM_THREADS": "1"})
        for draw in (1, 2, 3)
    ),
)


def run(case: Case) -> tuple[Case, int, str]:
    """The case with pytest's exit code and what it printed, its last line first told with the time that it took."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", *FILES],
        cwd=ROOT,
        env=os.environ | case.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    last = done.stdout.strip().rpartition("\n")[2]
    print(f"{case.name}: {last} ({time.monotonic() - started:.0f} s)", flush=True)
    return case, done.returncode, done.stdout


def main() -> int:
    for case in CASES:
        if missing := sorted(case.needs - cpu_flags()):
            print(f"{case.name}: SKIPPED, NOT TESTED: this processor has no {', '.join(missing)}", flush=True)
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(run, [case for case in CASES if case.needs <= cpu_flags()]))
    for case, code, said in results:
        if code:
            print(f"\n--- {case.name}: {' '.join('='.join(item) for item in case.variables.items())}\n{said}")
    return int(any(code for _, code, _ in results))


if __name__ == "__main__":
    sys.exit(main())
