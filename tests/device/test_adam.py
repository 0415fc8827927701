"""Adam without torch.compile's machinery: torch's own arithmetic, and nothing of torch._dynamo at the start."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from job.device.adam import Adam, AdamW
from tests.conftest import ROOT, bare_environment

START = """
import sys
import torch
from job import engine, models
from job.data import Split
from job.device import Compute
from job.engine.learner import new_learner, restore, snapshot

images = Split(torch.zeros(6, 32, 32, 3, dtype=torch.uint8), torch.zeros(6, dtype=torch.long))
compute = Compute(torch.device("cpu"), "fp32", "", "")
learner = new_learner(lambda: models.find("mlp").build(10), 1e-3, compute, 1, ("final",))
engine.train_epoch(learner, images, 1, 4, lambda count: None)
restore(learner, snapshot(learner))
print([name for name in ("torch._dynamo", "hyperopt") if name in sys.modules])
"""


def test_a_training_starts_without_what_takes_a_second_to_load() -> None:
    said = subprocess.run(
        [sys.executable, "-c", START], cwd=ROOT, env=bare_environment(), capture_output=True, text=True, check=True
    )
    assert said.stdout == "[]\n"


@pytest.mark.parametrize(("ours", "torchs"), [(Adam, torch.optim.Adam), (AdamW, torch.optim.AdamW)])
def test_it_is_torchs_adam_to_the_bit(ours: type[torch.optim.Optimizer], torchs: type[torch.optim.Optimizer]) -> None:
    """Steps, new gradients, and a state handed from one to the other and on."""
    torch.manual_seed(1)
    start = nn.Linear(5, 3).state_dict()
    trained = []
    for first, second in ((ours, torchs), (torchs, ours), (torchs, torchs)):
        model = nn.Linear(5, 3)
        model.load_state_dict(start)
        state = None
        for kind in (first, second):
            optimizer = kind(model.parameters(), lr=0.01, weight_decay=0.1, fused=True)
            if state:
                optimizer.load_state_dict(state)
            for number in range(3):
                optimizer.zero_grad()
                model(torch.full((2, 5), 1.0 + number)).square().sum().backward()
                optimizer.step()
            state = optimizer.state_dict()
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert torch.equal(trained[0], trained[2])
    assert torch.equal(trained[1], trained[2])
    assert not torch.equal(trained[2][:15], start["weight"].flatten())
