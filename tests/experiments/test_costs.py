"""Costs on a tiny task: the record against known values, and readable by reports."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
import torch

from adapters.base import adapter_registry
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.cli.overrides import Overrides
from experiments.config import RunConfig, Train
from experiments.costs import CostsOptions, configurations, costs
from experiments.errors import UsageError
from experiments.measure.cost_duration import seconds_of_method
from experiments.measure.method_costs import measure_costs
from experiments.records.folder import RunFolder
from experiments.session import execute
from reports.costs.records import CostRecord
from reports.schema import Record

OPTIONS = CostsOptions(steps=3, rounds=6, mixed=2, processes=1)


def record_of(adapter, task, runs) -> dict:
    config = RunConfig(adapter, task, Train(device="cpu")).resolved()
    return json.loads(json.dumps(measure_costs(config, OPTIONS, task.prepare(torch.device("cpu")), runs)))


def test_reports_read_the_record_and_its_values_are_right(tiny_task, tmp_path):
    record = msgspec.convert(record_of(Lora(rank=2), tiny_task(), tmp_path), CostRecord)
    assert record.parameters is not None
    trained = record.parameters.trainable
    assert trained == 2 * 2 * 4 * (32 + 32)  # rank x layers x q, k, v and output x (in + out)
    assert record.communication is not None
    assert record.communication.predicted_bytes == record.switch.bytes == 4 * trained
    assert record.flops is not None
    assert record.flops.optimizer == 14 * trained
    assert record.throughput is not None
    assert record.throughput.n == 3
    assert record.inference.merged is not None
    assert 0 < (record.inference.relative_difference or 0) < 1e-5
    assert record.mixed_batch.ratio is not None
    assert record.facts["positions_left"] == 64


def test_unsupported_figures_are_none_and_a_prefix_takes_positions(tiny_task, tmp_path):
    record = msgspec.convert(record_of(PrefixTuning(length=5), tiny_task(), tmp_path), CostRecord)
    assert record.inference.merged is None
    assert record.inference.relative_difference is None
    assert record.mixed_batch.ratio is None
    assert record.facts["positions_left"] == 59


def test_every_run_records_the_cost_of_its_steps(tiny_task, tmp_path):
    config = RunConfig(Lora(rank=2), tiny_task(), Train(device="cpu", gradient_accumulation_steps=2)).resolved()
    record = msgspec.convert(json.loads(json.dumps(execute(config, RunFolder.of(tmp_path, config)))), Record)
    assert record.flops is not None
    assert record.flops.forward > 0
    assert record.flops.total == record.flops.forward + record.flops.backward + record.flops.optimizer
    assert record.throughput is not None
    assert record.throughput.samples_per_second == pytest.approx(4 / record.throughput.step_seconds)
    assert record.communication is not None
    assert record.communication.measured_bytes is None
    assert record.facts["positions_left"] == 64


def test_a_method_that_does_not_fit_the_model_is_left_out(tiny_task, tmp_path):
    too_long = PrefixTuning(length=64)  # as many positions as the model has
    configs = [RunConfig(adapter, tiny_task(), Train(device="cpu")).resolved() for adapter in (too_long, Lora(rank=2))]
    (failure,) = costs(configs, OPTIONS, tmp_path)
    assert failure.startswith("prefix: ")
    assert [file.parent.parent.name for file in tmp_path.rglob("costs.json")] == ["lora"]


def test_a_bar_names_method_and_phase_after_an_estimate_of_the_time(tiny_task, tmp_path, capsys):
    configs = [RunConfig(Lora(rank=rank), tiny_task(), Train(device="cpu")).resolved() for rank in (1, 2)]
    assert costs(configs, OPTIONS, tmp_path) == []
    shown = capsys.readouterr().err
    assert shown.index("in all: 3 training steps and 6 rounds") < shown.index("measuring")
    for phase in ("training", "latency", "switching", "mixed batch", "communication"):
        assert f"lora (rank 2), {phase}" in shown or f", {phase}:" in shown
    assert "10/10" in shown


def test_the_estimate_grows_with_the_work(tiny_task):
    config = RunConfig(Lora(rank=2), tiny_task(), Train(device="cpu")).resolved()
    prepared = config.task.prepare(torch.device("cpu"))
    few, many = (
        seconds_of_method(config, replace(OPTIONS, rounds=rounds, steps=rounds), prepared) for rounds in (2, 2000)
    )
    assert many > 10 * few > 0


def test_one_configuration_per_method_and_size(tiny_task):
    overrides = Overrides("tiny", {}, {"batch_size": 3})
    configs = configurations(overrides, CostsOptions(methods=("lora", "full"), sizes=(1, 4), set=("lora.alpha=8",)))
    assert [config.adapter.name for config in configs] == ["lora", "lora", "full"]
    assert [config.adapter for config in configs[:2]] == [Lora(rank=1, alpha=8.0), Lora(rank=4, alpha=8.0)]
    assert {config.train.batch_size for config in configs} == {3}
    assert {config.adapter.name for config in configurations(overrides, CostsOptions())} == set(adapter_registry())


@pytest.mark.parametrize(
    ("overrides", "options", "sentence"),
    [
        (Overrides(), CostsOptions(), "expected a TASK"),
        (Overrides("tiny"), CostsOptions(methods=("lara",)), "did you mean 'lora'"),
        (Overrides("tiny"), replace(OPTIONS, mixed=1), "--mixed must be at least 2 .*, not 1"),
        (Overrides("tiny", {}, {"steps": 9}), OPTIONS, "--steps sets the steps to time"),
    ],
)
def test_mistakes_are_one_sentence(tiny_task, overrides, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        configurations(overrides, options)
