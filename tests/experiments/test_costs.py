"""Costs of a tiny task: what the record says against what is known, and that it is what the reports read."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec
import pytest
import torch

from adapters.base import registry
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.cli.overrides import Overrides
from experiments.config import RunConfig, Train
from experiments.costs import CostsOptions, configurations, measured
from experiments.errors import UsageError
from experiments.records.folder import RunFolder
from experiments.session import execute
from reports.costs import CostRecord
from reports.schema import Record

OPTIONS = CostsOptions(steps=3, rounds=6, mixed=2, processes=1)


def record_of(adapter, task) -> dict:
    config = RunConfig(adapter, task, Train(device="cpu")).resolved()
    return json.loads(json.dumps(measured(config, OPTIONS, task.prepare(torch.device("cpu")))))


def test_the_record_is_what_reports_read_and_says_what_is_known(tiny_task):
    found = msgspec.convert(record_of(Lora(rank=2), tiny_task()), CostRecord)
    assert found.parameters is not None
    trained = found.parameters.trainable
    assert trained == 2 * 2 * 4 * (32 + 32)  # rank x layers x q, k, v and output x (in + out)
    assert found.communication is not None
    assert found.communication.predicted_bytes == found.switch.bytes == 4 * trained
    assert found.flops is not None
    assert found.flops.optimizer == 14 * trained
    assert found.throughput is not None
    assert found.throughput.n == 3
    assert found.inference.merged is not None
    assert 0 < (found.inference.relative_difference or 0) < 1e-5
    assert found.mixed_batch.ratio is not None
    assert found.facts["positions_left"] == 64


def test_what_a_method_cannot_is_none_and_a_prefix_takes_positions(tiny_task):
    found = msgspec.convert(record_of(PrefixTuning(length=5), tiny_task()), CostRecord)
    assert found.inference.merged is None
    assert found.inference.relative_difference is None
    assert found.mixed_batch.ratio is None
    assert found.facts["positions_left"] == 59


def test_every_run_says_what_its_steps_cost(tiny_task, tmp_path):
    config = RunConfig(Lora(rank=2), tiny_task(), Train(device="cpu", gradient_accumulation_steps=2)).resolved()
    found = msgspec.convert(json.loads(json.dumps(execute(config, RunFolder.create(tmp_path, config)))), Record)
    assert found.flops is not None
    assert found.flops.forward > 0
    assert found.flops.total == found.flops.forward + found.flops.backward + found.flops.optimizer
    assert found.throughput is not None
    assert found.throughput.samples_per_second == pytest.approx(4 / found.throughput.step_seconds)
    assert found.communication is not None
    assert found.communication.measured_bytes is None
    assert found.facts["positions_left"] == 64


def test_a_configuration_a_method_and_size(tiny_task):
    given = Overrides("tiny", {}, {"batch": 3})
    chosen = configurations(given, CostsOptions(methods=("lora", "full"), sizes=(1, 4), set=("lora.alpha=8",)))
    assert [config.adapter.name for config in chosen] == ["lora", "lora", "full"]
    assert [config.adapter for config in chosen[:2]] == [Lora(rank=1, alpha=8.0), Lora(rank=4, alpha=8.0)]
    assert {config.train.batch_size for config in chosen} == {3}
    assert {config.adapter.name for config in configurations(given, CostsOptions())} == set(registry())


@pytest.mark.parametrize(
    ("task", "options", "sentence"),
    [
        (None, CostsOptions(), "expected a TASK"),
        ("tiny", CostsOptions(methods=("lara",)), "did you mean 'lora'"),
        ("tiny", replace(OPTIONS, mixed=1), "--mixed must be at least 2, not 1"),
    ],
)
def test_what_cannot_work_is_one_sentence(tiny_task, task, options, sentence):
    with pytest.raises(UsageError, match=sentence):
        configurations(Overrides(task), options)
