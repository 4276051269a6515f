"""A run's FLOPs, counted without weights, are those that a memory plan counts."""

import pytest

from adapters import FullFinetuning, Subspace
from experiments.config import RunConfig, Train
from experiments.planning.memory_plan import PlanSettings, plan
from experiments.planning.run_flops import run_flops
from tasks import EndToEnd, Pokemon
from tests.tasks.diffusion.tiny_base import write_base

CPU = Train(device="cpu", batch_size=4, gradient_accumulation_steps=2)


def pictures(tmp_path):
    write_base(tmp_path)
    return Pokemon(base=str(tmp_path), test_items=12, drift_items=4, validation_items=2, train_items=8)


def texts(tmp_path):
    return EndToEnd(test_items=3, drift_items=2)


@pytest.mark.parametrize(("adapter", "task"), [(FullFinetuning(), pictures), (Subspace(dimension=10), texts)])
def test_flops_are_those_of_the_plan(tmp_path, adapter, task):
    """The plan evaluates merged weights, and traces a step's largest rows at another batch size."""
    config = RunConfig(adapter, task(tmp_path), CPU).resolved()
    counted, planned = run_flops(config), plan(config, PlanSettings(device="cpu")).prediction
    evaluation = sum(phase.flops * phase.count for phase in planned.phases if phase.when == "evaluation")
    assert counted.step == pytest.approx(planned.training.flops, rel=0.02)
    assert counted.evaluation == pytest.approx(evaluation, rel=0.05)
