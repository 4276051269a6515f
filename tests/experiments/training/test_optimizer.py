"""Optimizers, schedules and the moving average against other implementations."""

import pytest
import torch
from diffusers.training_utils import EMAModel
from torch import nn

from experiments.config import ResolvedTrain
from experiments.training.optimizer import MovingAverage, optimizer_of, schedule_of


def trained(optimizer, parameter, steps=5):
    for step in range(steps):
        optimizer.zero_grad()
        (parameter - step).square().sum().backward()
        optimizer.step()
    return parameter.detach()


def test_the_fused_optimizer_takes_the_same_steps():
    found = []
    for name in ("adamw", "adamw-fused"):
        parameter = nn.Parameter(torch.linspace(-1, 1, 7))
        settings = ResolvedTrain(optimizer=name, learning_rate=0.1, weight_decay=0.1)
        found.append(trained(optimizer_of(settings, [parameter]), parameter))
    torch.testing.assert_close(*found)


def test_a_constant_rate_is_warmed_up():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedule_of(ResolvedTrain(lr_scheduler="constant", warmup_steps=4, steps=10), optimizer)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("decay", [0.2, 0.9999])
def test_the_average_is_that_of_diffusers(decay):
    parameter = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    ours, theirs = MovingAverage({"p": parameter}, decay), EMAModel([parameter], decay=decay)
    for step in range(1, 30):
        with torch.no_grad():
            parameter.add_(step)
        ours.update(step)
        theirs.step([parameter])
        torch.testing.assert_close(ours.values["p"], theirs.shadow_params[0])


def test_the_average_is_applied_and_taken_away_again():
    parameter = nn.Parameter(torch.zeros(3))
    average = MovingAverage({"p": parameter}, 0.5)
    with torch.no_grad():
        parameter.fill_(8)
    with average.applied():
        assert parameter.tolist() == [0, 0, 0]
    assert parameter.tolist() == [8, 8, 8]
