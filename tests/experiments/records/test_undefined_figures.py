"""Figures without a finite value, and metrics that were not measured: a failed run, or a reason that is shown."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from adapters.interchange.tensors import read_tensors
from adapters.lora import Lora
from experiments import Train, run
from experiments.records.summary import show
from tasks.base import Figure
from tests.experiments.tiny_task import PreparedTiny

CPU = Train(device="cpu", steps=4)


def shown(record, capsys) -> str:
    capsys.readouterr()
    show(record.data, record.folder)
    return " ".join(capsys.readouterr().out.split())


def test_an_update_that_overflows_fails_the_run(tiny_task, tmp_path, capsys):
    trained = run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path)
    tensors, metadata = read_tensors(trained.folder / "adapter.safetensors")
    huge = tmp_path / "huge.safetensors"
    save_file({name: torch.full_like(tensor, 1e30) for name, tensor in tensors.items()}, huge, metadata)
    record = run(Lora(rank=2, init=str(huge)), tiny_task(), replace(CPU, steps=0), runs=tmp_path)
    assert record.status == "failed"
    assert "no figure of the tuned model is a finite number (test_loss): check that the update in" in str(record.reason)
    assert "failed: no figure of the tuned model" in shown(record, capsys)


def test_a_single_undefined_figure_is_shown_with_its_reason(tiny_task, tmp_path, capsys, monkeypatch):
    measure = PreparedTiny.evaluate

    def evaluate(self, output=None):
        evaluation = measure(self, output)
        evaluation.figures["fid"] = Figure(math.nan, "", 16, "the model itself", base=2.5)
        evaluation.not_measured = {"kid": "needs 10 pictures", "clip_score": "needs 10 pictures"}
        return evaluation

    monkeypatch.setattr(PreparedTiny, "evaluate", evaluate)
    monkeypatch.setattr(PreparedTiny, "evaluation_key", "with undefined figures")
    record = run(Lora(rank=2), tiny_task(), CPU, runs=tmp_path)
    assert record.status == "finished"
    line = (
        "not measured: kid, clip_score (needs 10 pictures); fid (its value is not a finite number, the base's is 2.5)"
    )
    assert line in shown(record, capsys)


@pytest.mark.parametrize(("unit", "end"), [("", "the loss"), ("nats", "the loss (nats)")])
def test_a_figure_without_a_unit_has_no_parentheses(unit, end, capsys):
    from experiments.records.summary import _definitions

    assert list(_definitions({"fid": {"meaning": "the loss", "unit": unit}})) == [f"fid: {end}"]
