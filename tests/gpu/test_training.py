"""Training on a GPU: every method in bf16, exact resume, steps without a wait."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import pytest
import torch

from adapters.base import adapter_registry
from adapters.lora import Lora
from experiments import Callback, run
from tasks.base import task_registry

SMALL: dict[str, dict[str, Any]] = {
    "sd-pokemon": {"train_items": 16, "validation_items": 8, "test_items": 0, "drift_items": 0},
    "style": {"test_items": 2, "drift_items": 2},
}


def small(name: str):
    return task_registry()[name](**SMALL[name])


@pytest.mark.parametrize("task", SMALL)
@pytest.mark.parametrize("method", sorted(adapter_registry()))
def test_every_method_trains_in_bf16_with_checkpointing(machine, report, tmp_path, method, task):
    settings: dict[str, Any] = {"steps": 3, "batch_size": 4, "mixed_precision": "bf16", "gradient_checkpointing": True}
    record = run(adapter_registry()[method](), small(task), runs=tmp_path, device=machine.device, **settings)
    assert record.status == "finished", record.data["reason"]
    assert math.isfinite(record.data["training"]["final_loss"])
    assert record.data["precision"]["compute"] == "bf16"
    peak = record.data["memory"]["peak_bytes"] / 2**20
    report(f"{method}, {task}, bf16", f"{peak:.0f} MiB, {1000 * record.data['seconds']['step_median']:.0f} ms a step")


class StopAt(Callback):
    """Sends SIGTERM after a step."""

    def __init__(self, step: int):
        self.step = step

    def on_step(self, trainer, step, line):
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("task", SMALL)
def test_a_resumed_training_ends_with_the_same_bits(machine, tmp_path, task):
    settings: dict[str, Any] = {"steps": 8, "batch_size": 4, "deterministic": True, "device": machine.device}
    whole = run(Lora(rank=4), small(task), runs=tmp_path / "whole", **settings)
    with pytest.raises(KeyboardInterrupt):
        run(Lora(rank=4), small(task), runs=tmp_path / "cut", callbacks=[StopAt(3)], checkpointing_steps=1, **settings)
    resumed = run(Lora(rank=4), small(task), runs=tmp_path / "cut", checkpointing_steps=1, **settings)
    assert 3 <= resumed.data["training"]["resumed_from"] < 8
    assert resumed.data["training"]["final_loss"] == whole.data["training"]["final_loss"]
    one, two = (record.folder / "adapter.safetensors" for record in (whole, resumed))
    assert one.read_bytes() == two.read_bytes()


class NoWaits(Callback):
    """Makes torch raise an error where a step waits for the GPU, once the first steps have warmed up."""

    WARM_UP = 4

    def __init__(self) -> None:
        self.watched = 0

    def on_start(self, trainer):
        take = trainer.step

        def step(number: int) -> None:
            watch = number >= self.WARM_UP and torch.cuda.is_available()
            if watch:
                torch.cuda.set_sync_debug_mode("error")
            try:
                take(number)
            finally:
                if watch:
                    torch.cuda.set_sync_debug_mode("default")
            self.watched += number >= self.WARM_UP

        trainer.step = step


@pytest.mark.parametrize("task", SMALL)
def test_no_step_waits_for_the_gpu(machine, tmp_path, task):
    watch = NoWaits()
    record = run(
        Lora(rank=4), small(task), runs=tmp_path, steps=12, batch_size=4, device=machine.device, callbacks=[watch]
    )
    assert record.status == "finished", record.data["reason"]
    assert watch.watched == 8
