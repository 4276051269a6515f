"""Steps whose numbers are read together, as on a GPU: the same results, few synchronisations, divergence by name."""

import json
import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import ResolvedTrain
from experiments.records.failures import Diverged
from experiments.training.batches import BatchSource, StepBatches, mapped
from experiments.training.callbacks import Callback
from experiments.training.logs.readings import MOST_SKIPPED, Readings, hold_unless
from experiments.training.loop import Trainer
from experiments.training.spacing import CheckpointSpacing
from tests.experiments.tiny_task import PreparedTiny, Tiny

SETTINGS = ResolvedTrain(steps=10, batch_size=2, learning_rate=0.01, device="cpu", checkpointing_steps=5)


def trainer_of(folder, settings=SETTINGS, as_on_gpu=True, adapter: Any = None, prepared=None, callbacks=()):
    prepared, adapter = prepared or PreparedTiny(Tiny()), adapter or FullFinetuning()
    trainer = Trainer(prepared, adapter.attach(prepared.backbone), settings, folder, callbacks=callbacks)
    if as_on_gpu:
        trainer.readings.every, trainer.batches.threaded = settings.log_every, True
    return trainer


def lines(folder):
    rows = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2, "ema_decay": 0.9, "log_every": 3}])
def test_reading_together_and_drawing_in_advance_change_nothing(settings, tmp_path):
    results = []
    for as_on_gpu in (False, True):
        folder = tmp_path / str(as_on_gpu)
        folder.mkdir()
        trainer = trainer_of(folder, replace(SETTINGS, **settings), as_on_gpu)
        trainer.run()
        results.append((lines(folder), {name: p.detach() for name, p in trainer.owned.items()}))
    (rows, state), (rows_later, state_later) = results
    assert rows == rows_later
    assert [row["step"] for row in rows] == list(range(1, 11))
    assert all(torch.equal(state[name], state_later[name]) for name in state)


def test_steps_are_read_with_one_synchronisation(tmp_path, monkeypatch):
    calls, prepared = [], PreparedTiny(Tiny())
    prepared.backbone.model.config.pad_token_id = None  # else the model itself looks for padding at every call
    trainer = trainer_of(tmp_path, replace(SETTINGS, log_every=5), prepared=prepared)
    for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
        original = getattr(Tensor, name)

        def counted(tensor, name=name, original=original):
            caller = sys._getframe(1).f_code
            if "/torch/optim/" not in caller.co_filename:  # its step counts are on the CPU
                calls.append((name, caller.co_qualname))
            return original(tensor)

        monkeypatch.setattr(Tensor, name, counted)
    trainer.run()
    validation = ("__float__", "PreparedTiny.validation_loss")
    assert calls == [("tolist", "Readings.read")] * 2 + [validation], "two times five steps, and what follows the last"


class Validations(Callback):
    def __init__(self):
        self.at = []

    def on_validation(self, trainer, step, loss):
        self.at.append(step)


class PoisonedTiny(PreparedTiny):
    """Its loss is not finite for one batch: infinite, or with a gradient that is not a number."""

    def __init__(self, kind, at):
        super().__init__(Tiny())
        self.kind, self.at = kind, at

    def loss(self, batch):
        loss = super().loss(batch)
        if batch[0] != self.at:
            return loss
        weight = self.backbone.model.transformer.h[1].mlp.c_fc.bias.sum()
        return loss * math.inf if self.kind == "loss" else loss + 0 * (weight * 0).abs().sqrt()


@pytest.mark.parametrize(("kind", "named"), [("loss", "the loss"), ("gradient", "'transformer.h.1.mlp.c_fc.bias'")])
def test_a_bad_step_is_named_before_validation_and_checkpoint(kind, named, tmp_path):
    """The steps after it run before its numbers are read."""
    results = {}
    for as_on_gpu in (False, True):
        folder, validations = tmp_path / str(as_on_gpu), Validations()
        folder.mkdir()
        trainer = trainer_of(folder, SETTINGS, as_on_gpu, prepared=PoisonedTiny(kind, 6), callbacks=[validations])
        with pytest.raises(Diverged, match=f"diverged: .*{named}.* is not finite at step 7;") as raised:
            trainer.run()
        state = {name: p.detach() for name, p in trainer.owned.items()}
        results[as_on_gpu] = (str(raised.value), lines(folder), state)
        assert validations.at == []
        assert all(p.isfinite().all() for p in state.values())
    (message, rows, state), (message_later, rows_later, state_later) = results[False], results[True]
    assert message == message_later
    assert rows == rows_later
    assert all(torch.equal(state[name], state_later[name]) for name in state), "the weights of the step that is named"


def test_weights_that_explode_are_named_by_the_first_layer(tmp_path):
    messages = set()
    for as_on_gpu in (False, True):
        folder = tmp_path / str(as_on_gpu)
        folder.mkdir()
        trainer = trainer_of(folder, replace(SETTINGS, learning_rate=1e30), as_on_gpu, Lora(rank=2))
        with pytest.raises(Diverged, match="the output of the layer 'transformer") as raised:
            trainer.run()
        messages.add(str(raised.value))
    assert len(messages) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_numbers_are_held_to_the_bit_or_cleared(dtype):
    numbers = torch.tensor([1.5, -0.0, math.nan, math.inf, 1e-7], dtype=dtype)
    same, cleared = numbers.clone(), numbers.clone()
    hold_unless(torch.tensor(True), [same])
    hold_unless(torch.tensor(False), [cleared])
    integer = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    assert torch.equal(same.view(integer), numbers.view(integer))
    assert torch.equal(cleared, torch.zeros_like(numbers))


def readings(**settings):
    return Readings(diverged=lambda step: Diverged(f"at {step}"), **settings)


@pytest.mark.parametrize("every", [1, 7])
def test_fp16_steps_may_be_skipped_but_not_for_ever(every):
    """The gradient scaler lowers its scale at each skip; a loss that is not finite is another matter."""
    reading, optimizer = readings(every=every, scaled=True), torch.optim.AdamW([nn.Parameter(torch.ones(1))])

    def take(steps, loss, norm):
        for step in steps:
            reading.begin()
            reading.add(step, torch.tensor(loss), torch.tensor(norm), 0.1, optimizer)
            if reading.full:
                list(reading.read())

    take(range(every), 1.0, math.inf)
    take(range(every, 2 * every), 1.0, 1.0)
    with pytest.raises(Diverged, match=f"at {2 * every + MOST_SKIPPED}"):
        take(range(2 * every, 100), 1.0, math.nan)
    reading.skipped = 0
    with pytest.raises(Diverged, match="at 100"):
        take(range(100, 100 + every), math.inf, 1.0)


class Hooks(Callback):
    """Counts, after each step, what the loop's own measurements have hooked."""

    def __init__(self):
        self.counts = []

    def on_step(self, trainer, step, line):
        of_tensors = [p._post_accumulate_grad_hooks for p in trainer.owned.values()]
        module, optimizer = trainer.loss_module, trainer.optimizer.optimizer
        others = (module._forward_hooks, module._forward_pre_hooks, optimizer._optimizer_step_post_hooks)
        self.counts.append(sum(len(hooks) for hooks in (*of_tensors, *others) if hooks))


def test_memory_hooks_are_gone_after_the_counted_steps(tmp_path):
    hooks = Hooks()
    trainer = trainer_of(tmp_path, as_on_gpu=False, callbacks=[hooks])
    memory = trainer.run().memory
    assert hooks.counts[0] >= len(trainer.owned)
    assert hooks.counts[1:] == [0] * 9
    assert memory["categories"]["optimizer state"] >= 8 * sum(p.numel() for p in trainer.owned.values())


class Busy(PreparedTiny):
    """Draws no batch while it validates."""

    validating, drawn = False, 0

    def batches(self, seed, start, size):
        for batch in super().batches(seed, start, size):
            assert not self.validating or seed == 77
            self.drawn += 1
            yield batch

    def validation_loss(self):
        self.validating, before = True, self.drawn
        loss = super().validation_loss()
        assert self.drawn == before + 1, "validation's own"
        self.validating = False
        return loss


def test_nothing_is_drawn_in_advance_during_validation(tmp_path):
    trainer_of(tmp_path, replace(SETTINGS, validation_steps=2), prepared=Busy(Tiny())).run()


def test_an_error_in_the_thread_ends_the_training(tmp_path):
    class Broken(PreparedTiny):
        def batches(self, seed, start, size):
            yield next(super().batches(seed, start, size)) if start < 4 else 1 / 0

    with pytest.raises(ZeroDivisionError):
        trainer_of(tmp_path, prepared=Broken(Tiny())).run()


def test_weights_of_batches():
    class Sized(PreparedTiny):
        def weight(self, batch):
            return batch

    device = torch.device("cpu")
    plain = BatchSource(PreparedTiny(Tiny()), SETTINGS, device)
    assert plain.weights(StepBatches([None, None], [1, 1]), lambda total: pytest.fail("nothing to sum")) == [1, 1]
    sized = BatchSource(Sized(Tiny()), SETTINGS, device)
    assert sized.weights(StepBatches([None, None], [3, 1]), lambda total: total) == [1.5, 0.5]


def test_batches_of_any_structure_are_moved():
    batch = {"a": [torch.ones(1), (torch.ones(2), "text")], "b": None, "c": StepBatches([torch.ones(3)], [1.0])}
    doubled = mapped(batch, lambda tensor: tensor * 2)
    assert doubled["a"][1][0].tolist() == [2, 2]
    assert doubled["a"][1][1] == "text"
    assert doubled["c"].batches[0].tolist() == [2, 2, 2]


def test_large_checkpoints_are_spaced_by_the_time_that_they_take(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("experiments.training.spacing.time.perf_counter", lambda: now[0])

    def save(seconds, size):
        now[0] += seconds
        return size

    spacing = CheckpointSpacing()
    spacing.timed(lambda: save(60, 10**8))
    assert spacing.is_due(), "a small one is saved whenever asked"
    spacing.timed(lambda: save(6, 4 * 10**9))
    now[0] += 199
    assert not spacing.is_due()
    now[0] += 1.1
    assert spacing.is_due(), "6 s of 200 are 3 %"
