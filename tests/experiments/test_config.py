"""Configurations: round trip, recommendations, and the mistakes that people make."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from adapters.base import adapter_registry
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from experiments.cli.parser import parse
from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import fingerprint
from experiments.run import RunOptions
from tasks.diffusion.pokemon import Pokemon


def test_a_command_line_becomes_a_configuration():
    words = ["lora", "sd-pokemon", "--adapter.rank", "8", "--train.steps", "5", "--task.data", "openmoji"]
    config, options = parse(RunOptions, [*words, "--runs", "elsewhere"], "run")
    assert config == RunConfig(Lora(rank=8), Pokemon(data="openmoji"), Train(steps=5))
    assert options == RunOptions(runs=Path("elsewhere"))


def test_a_configuration_survives_its_record():
    config = RunConfig(Lora(ranks={"query": 2}, targets=("all",)), Pokemon(), Train(seed=3)).resolved()
    record = json.loads(json.dumps(config.as_record()))
    assert RunConfig.from_record(record) == config


@pytest.mark.parametrize("method", adapter_registry().values(), ids=adapter_registry())
def test_every_method_survives_its_record(method):
    for settings in method.examples:
        config = RunConfig(method(**settings), Pokemon())
        assert RunConfig.from_record(json.loads(json.dumps(config.as_record()))) == config


def test_a_record_distinguishes_peft_methods():
    vera, lora = (RunConfig(PeftMethod(method=method), Pokemon()) for method in ("vera", "lora"))
    assert (vera.adapter.label, lora.adapter.label) == ("peft vera", "peft lora")
    assert fingerprint(vera.resolved()) != fingerprint(lora.resolved())


def test_the_users_value_comes_first_and_the_card_fills_the_rest():
    config = RunConfig(Lora(), Pokemon(), Train(steps=7)).resolved()
    assert config.train.steps == 7
    card = Pokemon().recommended("lora")
    assert config.train.batch_size == card["batch_size"]
    assert config.train.learning_rate == card["learning_rate"]


@pytest.mark.parametrize(("steps", "warmup_steps"), [(100, 5), (400, 20), (4000, 20)])
def test_a_short_training_has_a_short_warmup(steps, warmup_steps):
    card = Pokemon().recommended("lora")
    assert (card["steps"], card["warmup_steps"]) == (400, 20)
    assert RunConfig(Lora(), Pokemon(), Train(steps=steps)).resolved().train.warmup_steps == warmup_steps
    assert RunConfig(Lora(), Pokemon(), Train(steps=steps, warmup_steps=50)).resolved().train.warmup_steps == 50


def test_the_fingerprint_distinguishes_settings():
    first, second = (RunConfig(Lora(), Pokemon(), Train(seed=seed)).resolved() for seed in (0, 1))
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(second)
    other = RunConfig(Lora(), Pokemon(), Train(checkpointing_steps=7)).resolved()
    assert fingerprint(other) == fingerprint(first), "the number of checkpoints does not change the result"


def test_settings_added_later_do_not_rename_finished_runs():
    task = Pokemon(train_items=40, test_items=12, drift_items=10, num_inference_steps=2)
    config = RunConfig(Lora(rank=2), task, Train(steps=4, batch_size=4, device="cpu")).resolved()
    assert fingerprint(config) == "f31814166996"
    half = RunConfig(Lora(rank=2), task, Train(steps=4, batch_size=4, device="cpu", mixed_precision="bf16")).resolved()
    assert fingerprint(half) != fingerprint(config)


def test_the_identity_has_the_size_even_at_its_default():
    assert RunConfig(Lora(), Pokemon()).identity()["adapter"] == {"name": "lora", "rank": Lora().rank}


def test_a_published_base_has_fewer_items_on_a_cpu(tmp_path):
    def counts(task: Pokemon, device: Literal["cpu", "cuda"]) -> tuple[int | None, ...]:
        taken = RunConfig(Lora(), task, Train(device=device)).resolved().task
        assert isinstance(taken, Pokemon)
        filled = taken.filled()
        return filled.train_items, filled.validation_items, filled.test_items, filled.drift_items

    task = published_base(tmp_path)
    assert counts(replace(task, test_items=3), "cpu") == (8, 1, 3, 0)
    assert counts(task, "cuda") == counts(Pokemon(), "cpu") == (1500, 128, 500, 100)


def published_base(folder: Path) -> Pokemon:
    (folder / "model_index.json").write_text("{}")
    return Pokemon(base=str(folder))


def test_a_published_base_has_the_tutorials_settings(tmp_path):
    task = published_base(tmp_path)
    train = RunConfig(Lora(), task, Train(device="cuda")).resolved().train
    assert (train.epochs, train.steps, train.batch_size, train.learning_rate) == (100, None, 1, 1e-4)
    assert (train.lr_scheduler, train.warmup_steps, train.mixed_precision, train.checkpointing_steps) == (
        "constant",
        0,
        "fp16",
        5000,
    )
    assert RunConfig(Lora(), task, Train(device="cpu")).resolved().train.mixed_precision == "no"
    assert (
        RunConfig(Lora(), task, Train(device="cuda", mixed_precision="bf16")).resolved().train.mixed_precision == "bf16"
    )
    filled = task.filled()
    assert (filled.resolution, filled.random_flip, filled.crop) == (512, True, "random")


def test_steps_or_epochs(tmp_path):
    task = published_base(tmp_path)
    assert RunConfig(Lora(), task, Train(steps=7)).resolved().train.epochs is None
    train = RunConfig(Lora(), Pokemon(), Train(epochs=3, batch_size=4, gradient_accumulation_steps=2)).resolved().train
    assert train.steps is None
    done = ResolvedTrain.of(replace(train, num_processes=2), train_items=41)  # 16 items a step
    assert (done.steps, done.validation_steps) == (9, 1)
    assert ResolvedTrain.of(RunConfig(Lora(), Pokemon(), Train(steps=5)).resolved().train).steps == 5
    with pytest.raises(UsageError, match=r"give --train\.steps"):
        ResolvedTrain.of(train)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Train(steps=5, epochs=5), "not both"),
        (Train(ema_decay=1.0), "ema-decay must be"),
        (Train(optimizer="adamw-8bit"), "pip install bitsandbytes"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(train, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(UsageError, match=message):
        RunConfig(Lora(), Pokemon(), train).resolved()


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["lorra", "sd-pokemon"], "did you mean 'lora'"),
        (["lora", "sd-pokemn"], "did you mean 'sd-pokemon'"),
        (["lora", "sd-pokemon", "--adapter.rnak", "8"], "did you mean '--adapter.rank'"),
        (["lora", "sd-pokemon", "--rnus", "8"], "did you mean '--runs'"),
        ([], "expected METHOD TASK"),
    ],
)
def test_a_typo_names_the_nearest_name(arguments, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(RunOptions, arguments, "run")
    assert stopped.value.code != 0
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


@pytest.mark.parametrize(
    "train",
    [Train(steps=-1), Train(batch_size=0), Train(learning_rate=-1.0), Train(seed=-1), Train(checkpointing_steps=0)],
)
def test_settings_that_cannot_work_are_refused(train):
    with pytest.raises(UsageError, match="must be"):
        RunConfig(Lora(), Pokemon(), train).resolved()


def test_an_unknown_setting_in_a_record_is_refused():
    record = RunConfig(Lora(), Pokemon()).resolved().as_record()
    record["adapter"]["rnak"] = 3
    with pytest.raises(UsageError, match="did you mean 'rank'"):
        RunConfig.from_record(record)


def test_a_card_with_an_unknown_setting_is_refused(monkeypatch):
    monkeypatch.setattr(Pokemon, "recommended", lambda self, adapter: {"batch": 4})
    with pytest.raises(UsageError, match=r"recommends 'batch'.*did you mean 'batch_size'"):
        RunConfig(Lora(), Pokemon()).resolved()
