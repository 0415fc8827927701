"""What nobody runs for weeks still finds what it needs of the job."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import bench


def test_every_part_of_the_bench_can_be_loaded() -> None:
    root = Path(next(iter(bench.__path__)))
    for file in sorted(root.rglob("*.py")):
        import_module(".".join(file.relative_to(root.parent).with_suffix("").parts))
