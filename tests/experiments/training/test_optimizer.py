"""Optimizers, schedules and the moving average against other implementations and formulas."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from experiments.config import ResolvedTrain
from experiments.training.optimizer import average_of, averaged, optimizer_of, schedule_of
from experiments.training.settings import LRScheduler


def trained(optimizer, parameter, steps=5):
    for step in range(steps):
        optimizer.zero_grad()
        (parameter - step).square().sum().backward()
        optimizer.step()
    return parameter.detach()


def test_the_fused_optimizer_takes_the_same_steps():
    results = []
    for name in ("adamw", "adamw-fused"):
        parameter = nn.Parameter(torch.linspace(-1, 1, 7))
        settings = ResolvedTrain(optimizer=name, learning_rate=0.1, weight_decay=0.1)
        results.append(trained(optimizer_of(settings, [parameter]), parameter))
    torch.testing.assert_close(*results)


def test_a_constant_rate_is_warmed_up():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = schedule_of(ResolvedTrain(lr_scheduler="constant", warmup_steps=4, steps=10), optimizer)
    rates = []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == [0, 0.25, 0.5, 0.75, 1, 1]


@pytest.mark.parametrize("warmup", [0, 3])
@pytest.mark.parametrize("name", get_args(LRScheduler))
def test_schedules_are_those_of_transformers(name, warmup):
    from transformers import get_scheduler

    settings = ResolvedTrain(lr_scheduler=name, warmup_steps=warmup, steps=20)
    theirs = "constant_with_warmup" if name == "constant" and warmup else name
    rates = []
    for schedule in (lambda o: schedule_of(settings, o), lambda o: get_scheduler(theirs, o, warmup, 20)):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.7)
        scheduler, values = schedule(optimizer), []
        for _ in range(22):
            values.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
        rates.append(values)
    assert rates[0] == rates[1]
    assert len(set(rates[0])) > 1 or (name, warmup) == ("constant", 0)


def test_without_a_decay_there_is_no_average():
    parameter = nn.Parameter(torch.ones(1))
    assert average_of(ResolvedTrain(), [parameter]) is None
    with averaged(None, [parameter]):
        assert parameter.tolist() == [1]


@pytest.mark.parametrize("decay", [0.2, 0.9999])
def test_the_average_follows_its_formula(decay):
    """s_n = d_n s_(n-1) + (1 - d_n) p_n with d_n = min(decay, n / (9 + n)), and d_1 = 0."""
    parameter = nn.Parameter(torch.randn(5, generator=torch.Generator().manual_seed(0)))
    average = average_of(ResolvedTrain(ema_decay=decay), [parameter])
    assert average is not None
    expected = parameter.detach().double()
    for step in range(1, 30):
        with torch.no_grad():
            parameter.add_(step)
        average.step([parameter])
        rate = 0.0 if step == 1 else min(decay, step / (9 + step))
        expected = rate * expected + (1 - rate) * parameter.detach().double()
        torch.testing.assert_close(average.shadow_params[0].double(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("decay", [0.2, 0.9999])
def test_the_average_has_the_numbers_of_diffusers(decay):
    from diffusers.training_utils import EMAModel

    generator = torch.Generator().manual_seed(0)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((5,), (3, 4), (1,))]
    average = average_of(ResolvedTrain(ema_decay=decay), parameters)
    theirs = EMAModel(parameters, decay=decay)
    assert average is not None
    for _ in range(30):
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(torch.randn(parameter.shape, generator=generator))
        average.step(parameters)
        theirs.step(parameters)
        assert all(map(torch.equal, average.shadow_params, theirs.shadow_params))


def test_the_average_is_applied_within_the_context_only():
    parameter = nn.Parameter(torch.zeros(3))
    average = average_of(ResolvedTrain(ema_decay=0.5), [parameter])
    with torch.no_grad():
        parameter.fill_(8)
    with averaged(average, [parameter]):
        assert parameter.tolist() == [0, 0, 0]
    assert parameter.tolist() == [8, 8, 8]


def shrink(settings: ResolvedTrain, steps: int = 400) -> float:
    """What is left of a parameter of 1 whose gradient is 0."""
    parameter = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = optimizer_of(settings, [parameter])
    schedule = schedule_of(replace(settings, steps=steps), optimizer)
    for _ in range(steps):
        parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        schedule.step()
    return parameter.item()


# the rates of full fine-tuning, LoRA, VeRA and prefix-tuning in release 0.1, and what a decay of .01 left
@pytest.mark.parametrize(("rate", "left"), [(2e-3, 0.996), (6e-3, 0.988), (0.1, 0.82), (0.2, 0.67)])
def test_by_default_no_method_shrinks_however_high_its_rate(rate, left):
    settings = ResolvedTrain(learning_rate=rate, lr_scheduler="cosine")
    assert shrink(settings) == 1
    assert shrink(replace(settings, weight_decay=0.01)) == pytest.approx(left, abs=0.002)
