"""What a run prints when it ends: every number with its definition, each defined once."""

import pytest

from adapters.lora import Lora
from experiments import Train, run
from experiments.records.summary import show


@pytest.fixture
def shown(tiny_task, tmp_path, capsys):
    record = run(Lora(rank=2), tiny_task(), Train(device="cpu", steps=4), runs=tmp_path)
    capsys.readouterr()
    show(record.data, record.folder)
    return record.data, " ".join(capsys.readouterr().out.split())


def test_every_figure_is_defined(shown):
    record, text = shown
    for name, figure in record["metrics"].items():
        assert f"{name}: {figure['meaning']} ({figure['unit']})" in text


def test_both_peaks_are_shown_with_what_they_are(shown):
    record, text = shown
    tensors = sum(record["memory"]["categories"].values()) / 1e6
    assert f"memory of a step's tensors at their peak: {tensors:,.1f} MB (weights " in text
    assert f"memory in all: {record['memory']['peak_bytes'] / 1e6:,.1f} MB ({record['memory']['how']})" in text


def test_a_steps_time_is_without_validation(shown):
    record, text = shown
    assert f"training {record['seconds']['train']:.0f} (steps, validation and checkpoints)" in text
    assert f"a step alone takes {record['seconds']['step_median']:.3f} (median)" in text
