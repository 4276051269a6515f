"""AdaLoRA in our loop against peft's own: the same parameters, the budget reached, and a run that resumes exactly."""

import copy
import sys
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.peft_method import PeftMethod
from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.records.folder import RunFolder
from experiments.session import execute
from experiments.training.callbacks import Callback
from tests.contract import tiny
from tests.contract.tiny import output
from tests.experiments.tiny_regression import TinyRegression
from tests.experiments.training.test_readings import trainer_of

OPTIONS: dict[str, Any] = {"init_r": 4, "target_r": 2, "lora_alpha": 8, "tinit": 1, "tfinal": 1}
STEPS = 8
TOKENS = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(0))


def attached(seed: int = 0) -> tuple[Any, Any]:
    backbone = copy.deepcopy(tiny.built("llama"))
    return backbone, attach(PeftMethod("adalora", OPTIONS), backbone, seed)


def train(backbone, attachment, steps: int = STEPS) -> None:
    optimizer = torch.optim.AdamW(attachment.parameters().values(), lr=0.05)
    for step in range(steps):
        loss = backbone.model(input_ids=TOKENS, labels=TOKENS).loss + attachment.regularization()
        loss.backward()
        optimizer.step()
        attachment.after_step(step + 1, steps, torch.tensor(True))
        optimizer.zero_grad()


@pytest.fixture(scope="module")
def trained() -> tuple[Any, Any]:
    backbone, attachment = attached()
    train(backbone, attachment)
    return backbone, attachment


def test_parameters_are_those_of_pefts_own_loop(trained):
    base = copy.deepcopy(tiny.built("llama"))
    config = peft.AdaLoraConfig(target_modules=["q_proj", "k_proj", "v_proj", "o_proj"], total_step=STEPS, **OPTIONS)
    torch.manual_seed(0)
    theirs: Any = peft.get_peft_model(base.model, config)
    _, ours = attached()
    values = {name.replace("base_model.model.", ""): p for name, p in theirs.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for name, parameter in ours.parameters().items():
            values[name].copy_(parameter)
    optimizer = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=0.05)
    theirs.eval()
    for step in range(1, STEPS + 1):
        theirs.base_model(input_ids=TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
        theirs.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    for name, parameter in trained[1].parameters().items():
        torch.testing.assert_close(values[name], parameter, atol=1e-5, rtol=1e-4)


def test_the_budget_is_reached_and_recorded(trained):
    _, attachment = trained
    kept = [p for name, p in attachment.parameters().items() if "lora_E" in name]
    assert sum(int((p != 0).sum()) for p in kept) == 2 * len(kept)
    assert sum(attachment.facts["ranks"].values()) == 2 * len(kept)
    assert len(attachment.facts["ranks"]) == len(kept)


def test_the_saved_adapter_loads_here_and_in_peft(trained, tmp_path):
    backbone, attachment = trained
    twin, other = attached(seed=7)
    other.load(attachment.state())
    torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-5)
    for file in attachment.export("peft"):
        file.save(tmp_path / file.name)
    base = copy.deepcopy(tiny.built("llama"))
    theirs: Any = peft.PeftModel.from_pretrained(base.model, tmp_path)
    torch.testing.assert_close(output(base, theirs), output(backbone), atol=1e-5, rtol=1e-5)


class Stop(Callback):
    def on_step(self, trainer, step, line):
        if step == 4:
            raise KeyboardInterrupt


def test_a_run_resumes_exactly(tmp_path):
    settings = Train(steps=STEPS, batch_size=1, device="cpu", learning_rate=0.05, checkpointing_steps=3)
    config = RunConfig(PeftMethod("adalora", OPTIONS), TinyRegression(), settings).resolved()
    whole, resumed = (RunFolder.of(tmp_path / name, config) for name in ("whole", "resumed"))
    record = execute(config, whole)
    with pytest.raises(KeyboardInterrupt):
        execute(config, resumed, callbacks=[Stop()])
    assert execute(config, resumed)["training"]["resumed_from"] == 3
    first, second = load_file(whole.adapter_file), load_file(resumed.adapter_file)
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())
    assert sum(record["facts"]["ranks"].values()) == 2 * len(record["facts"]["ranks"])


def test_schedules_without_a_step_to_move_ranks_are_refused_before_anything_is_loaded():
    method = PeftMethod("adalora", OPTIONS)
    with pytest.raises(AdapterError, match="tinit 1 and tfinal 1 leave none of the 2 steps for moving ranks: lower"):
        RunConfig(method, TinyRegression(), Train(steps=2)).resolved()
    for steps in (0, 3):
        RunConfig(method, TinyRegression(), Train(steps=steps)).resolved()
    epochs = RunConfig(method, TinyRegression(), Train(epochs=1, batch_size=4)).resolved()
    with pytest.raises(AdapterError, match="leave none of the 2 steps"):
        epochs.for_items(8)
    assert epochs.for_items(12).steps == 3


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"deltaT": 0}, "deltaT must be an integer from 1, not 0"),
        ({"tinit": -1}, "tinit must be an integer from 0, not -1"),
        ({"tfinal": 0.5}, "tfinal must be an integer from 0, not 0.5"),
        ({"beta1": 1}, "beta1 must lie between 0 and 1, not 1"),
        ({"target_r": 4, "init_r": 4}, "must be below the rank at the start"),
        ({"total_step": 5}, "leave out total_step"),
    ],
)
def test_impossible_options_are_one_sentence(options, says):
    with pytest.raises(AdapterError, match=says):
        PeftMethod("adalora", options).check_settings()


def test_steps_that_are_read_together_move_ranks_alike_and_wait_for_nothing(tmp_path, monkeypatch):
    """As on a GPU: between two readings no number is read."""
    settings = ResolvedTrain(steps=STEPS, batch_size=1, device="cpu", learning_rate=0.05, log_every=4)
    states, calls = [], []
    for as_on_gpu in (False, True):
        folder = tmp_path / str(as_on_gpu)
        folder.mkdir()
        trainer = trainer_of(folder, settings, as_on_gpu, PeftMethod("adalora", OPTIONS))
        trainer.prepared.backbone.model.config.pad_token_id = None  # else the model itself looks for padding
        with monkeypatch.context() as patch:
            for name in ("item", "tolist", "__bool__", "__float__", "__int__"):
                original = getattr(torch.Tensor, name)

                def counted(tensor, original=original):
                    caller = sys._getframe(1).f_code
                    if "/torch/optim/" not in caller.co_filename:
                        calls.append(caller.co_qualname)
                    return original(tensor)

                patch.setattr(torch.Tensor, name, counted)
            trainer.run()
        states.append({name: p.detach() for name, p in trainer.owned.items()})
        if not as_on_gpu:
            calls.clear()
    assert all(torch.equal(states[0][name], state) for name, state in states[1].items())
    ranks = [call for call in calls if "_record_ranks" in call]
    assert [call for call in calls if call not in ranks] == ["Readings.read"] * 2 + ["PreparedTiny.validation_loss"]


def test_a_step_that_is_not_finite_changes_neither_importances_nor_singular_values():
    backbone, attachment = attached()
    train(backbone, attachment, 4)
    before = copy.deepcopy((attachment.state(), attachment.training_state()))
    for parameter in attachment.parameters().values():
        parameter.grad = torch.full_like(parameter, torch.nan)
    attachment.after_step(3, STEPS, torch.tensor(False))
    after = attachment.state(), attachment.training_state()
    for earlier, later in zip(before, after, strict=True):
        kept = {name: tensor for name, tensor in earlier.items() if not name.startswith("pattern.")}
        assert all(torch.equal(later[name], tensor) for name, tensor in kept.items())


def test_a_run_that_resumes_after_its_last_step_records_its_ranks(trained):
    _, other = attached(seed=7)
    other.load_training_state(trained[1].training_state())
    assert other.facts["ranks"] == trained[1].facts["ranks"]
