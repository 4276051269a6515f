"""Checkpoints of every optimizer: a training that resumes takes the same steps."""

from typing import Any

import pytest
import torch
from torch import nn

from experiments.config import ResolvedTrain
from experiments.training.checkpoint import Parts, Progress, load, save
from experiments.training.optimizer import optimizer_of, schedule_of

SIZES = {"layer.large": 5000, "layer.also": 5000, "small": 10}  # bitsandbytes quantises moments from 4096 numbers on


def parts_of(name: Any) -> Parts:
    generator = torch.Generator().manual_seed(0)
    owned = {each: nn.Parameter(torch.randn(size, generator=generator)) for each, size in SIZES.items()}
    settings = ResolvedTrain(optimizer=name, learning_rate=0.1, steps=8)
    optimizer: Any = optimizer_of(settings, list(owned.values()))
    return Parts(owned, optimizer, schedule_of(settings, optimizer), None)


def take_steps(parts: Parts, steps: range) -> None:
    for step in steps:
        for parameter in parts.owned.values():
            parameter.grad = (parameter.detach() - step).sign() * (1 + parameter.detach().abs())
        parts.optimizer.step()
        parts.schedule.step()


@pytest.mark.parametrize("name", ["adamw", "adamw-fused", "adamw-8bit"])
def test_a_resumed_optimizer_takes_the_same_steps(name, tmp_path):
    if name == "adamw-8bit":
        pytest.importorskip("bitsandbytes")
    whole, interrupted, resumed = (parts_of(name) for _ in range(3))
    take_steps(whole, range(8))
    take_steps(interrupted, range(4))
    save(tmp_path, interrupted, Progress(step=4))
    assert load(tmp_path, resumed).step == 4
    take_steps(resumed, range(4, 8))
    for each in SIZES:
        assert torch.equal(resumed.owned[each], whole.owned[each]), each
        assert not torch.equal(resumed.owned[each], interrupted.owned[each])
