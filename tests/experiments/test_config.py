"""Configurations: round trip, recommendations, and the mistakes that people make."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import save_file

from adapters.base import adapter_registry
from adapters.lora import Lora
from adapters.peft_method import PeftMethod
from experiments.cli.parser import parse
from experiments.config import ResolvedTrain, RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import fingerprint
from experiments.run import RunOptions
from experiments.training.optimizer import optimizer_of, schedule_of
from tasks.diffusion.pokemon import Pokemon
from tasks.language.style import Style


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
    assert config.train.lr_scheduler == card["lr_scheduler"]


@pytest.mark.parametrize(
    ("searched", "card", "given", "rate", "source"),
    [
        ((3e-3, "interpolated"), {"learning_rate": 1e-3}, None, 3e-3, "interpolated"),
        ((3e-3, "search"), {}, 3e-3, 3e-3, "search"),
        ((3e-3, "nearest"), {"learning_rate": 1e-3}, 1e-3, 1e-3, "user"),
        (None, {"learning_rate": 1e-3}, None, 1e-3, "card"),
        (None, {"learning_rate": 1e-3}, 2e-3, 2e-3, "user"),
        (None, {}, None, 1e-4, "fallback"),
    ],
)
def test_a_searched_rate_comes_before_the_cards(monkeypatch, searched, card, given, rate, source):
    monkeypatch.setattr(Pokemon, "recommended", lambda self, adapter: card)
    monkeypatch.setattr(Pokemon, "searched_rate", lambda self, adapter, size, settings: searched)
    config = RunConfig(Lora(), Pokemon(), Train(learning_rate=given)).resolved()
    assert (config.train.learning_rate, config.learning_rate_source) == (rate, source)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(100, 5), (600, 30), (4000, 30)])
def test_a_short_training_has_a_short_warmup(steps, warmup_steps):
    card = Pokemon().recommended("lora")
    assert (card["steps"], card["warmup_steps"]) == (600, 30)
    assert RunConfig(Lora(), Pokemon(), Train(steps=steps)).resolved().train.warmup_steps == warmup_steps
    assert RunConfig(Lora(), Pokemon(), Train(steps=steps, warmup_steps=50)).resolved().train.warmup_steps == 50


def test_the_fingerprint_distinguishes_settings():
    first, second = (RunConfig(Lora(), Pokemon(), Train(seed=seed)).resolved() for seed in (0, 1))
    assert fingerprint(first) == fingerprint(first)
    assert fingerprint(first) != fingerprint(second)
    other = RunConfig(Lora(), Pokemon(), Train(checkpointing_steps=7)).resolved()
    assert fingerprint(other) == fingerprint(first), "the number of checkpoints does not change the result"


def test_settings_added_later_do_not_rename_finished_runs(monkeypatch):
    for what in ("content_digests", "settings_of_card"):  # the settings alone, whatever the base and its card hold
        monkeypatch.setattr(Pokemon, what, lambda self: {})
    task = Pokemon(train_items=40, test_items=12, drift_items=10, num_inference_steps=2)
    train = Train(steps=4, batch_size=4, device="cpu", learning_rate=0.006, weight_decay=0.01)
    config = RunConfig(Lora(rank=2, alpha="rank"), task, train).resolved()
    assert fingerprint(config) == "f31814166996"
    half = replace(config, train=replace(config.train, mixed_precision="bf16"))
    assert fingerprint(half) != fingerprint(config)


def test_a_default_that_a_later_release_changed_is_no_earlier_runs_value():
    train = Train(learning_rate=0.006)
    first = RunConfig(Lora(alpha="rank"), Pokemon(), replace(train, weight_decay=0.01)).resolved()
    todays = RunConfig(Lora(), Pokemon(), train).resolved()
    assert len({fingerprint(config) for config in (first, todays, replace(first, adapter=Lora()))}) == 3
    names = ("alpha", "weight_decay")
    assert {name for part in first.identity().values() for name in part if name in names} == set()
    assert {name for part in todays.identity().values() for name in part if name in names} == set(names)


def test_the_identity_has_the_size_even_at_its_default():
    assert RunConfig(Lora(alpha="rank"), Pokemon()).identity()["adapter"] == {"name": "lora", "rank": Lora().rank}


def test_the_identity_has_what_the_bases_own_card_decides(tmp_path):
    def identity(**settings: Any) -> dict[str, Any]:
        return RunConfig(Lora(), Pokemon(base=str(tmp_path), **settings)).identity()["task"]

    def recommend(**task: Any) -> None:
        card = {"sampling": {"guidance_scale": 3.0}, "sd-pokemon": {"task": task}}
        (tmp_path / "card.json").write_text(json.dumps(card))

    assert set(identity()) == {"name", "base"}
    recommend(test_items=40)
    assert {"test_items": 40, "guidance_scale": 3.0}.items() <= identity().items()
    given = identity(test_items=41)
    recommend(test_items=41)
    assert identity() == given


def test_a_published_base_has_fewer_items_on_a_cpu(tmp_path):
    def counts(task: Pokemon, device: Literal["cpu", "cuda"]) -> tuple[int | None, ...]:
        taken = RunConfig(Lora(), task, Train(device=device)).resolved().task
        assert isinstance(taken, Pokemon)
        filled = taken.filled()
        return filled.train_items, filled.validation_items, filled.test_items, filled.drift_items

    task = published_base(tmp_path)
    assert counts(replace(task, test_items=3), "cpu") == (8, 1, 3, 0)
    assert counts(task, "cuda") == (1500, 128, 500, 100)
    assert counts(Pokemon(), "cpu") == (1500, 128, 250, 100)  # the card of mini asks for half the prompts


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
        "bf16",
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
    config = RunConfig(Lora(), Pokemon(), Train(epochs=3, batch_size=4, gradient_accumulation_steps=2)).resolved()
    assert config.train.steps is None
    done = replace(config, train=replace(config.train, num_processes=2)).for_items(41)  # 16 items a step
    assert (done.steps, done.validation_steps) == (9, 1)
    assert ResolvedTrain.of(RunConfig(Lora(), Pokemon(), Train(steps=5)).resolved().train).steps == 5
    with pytest.raises(UsageError, match=r"give --train\.steps"):
        config.for_items(None)
    with pytest.raises(UsageError, match=r"RunConfig\.for_items"):
        ResolvedTrain.of(config.train)


@pytest.mark.parametrize("steps", [1, 2, 40, 100, 400, 900])
def test_epochs_have_the_warmup_of_as_many_steps(steps):
    of_steps = RunConfig(Lora(), Pokemon(), Train(steps=steps, batch_size=10)).resolved()
    of_epochs = RunConfig(Lora(), Pokemon(), Train(epochs=1, batch_size=10)).resolved()
    assert of_epochs.for_items(10 * steps) == of_steps.for_items(None)
    given = RunConfig(Lora(), Pokemon(), Train(epochs=1, batch_size=10, warmup_steps=7)).resolved()
    assert given.train.warmup_steps == 7


def test_one_epoch_of_ten_rows_trains_something():
    """With the card's whole warmup the only step would have a learning rate of 0."""
    settings = RunConfig(Lora(), Pokemon(), Train(epochs=1, batch_size=10)).resolved().for_items(10)
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = optimizer_of(settings, [weight])
    schedule_of(settings, optimizer)
    assert optimizer.param_groups[0]["lr"] > 0
    with pytest.raises(UsageError, match="covers the only training step"):
        RunConfig(Lora(), Pokemon(), Train(epochs=1, batch_size=10, warmup_steps=7)).resolved().for_items(10)


def with_card(monkeypatch, **card) -> None:
    card = {"batch_size": 10, "learning_rate": 1e-3} | card
    monkeypatch.setattr(Pokemon, "recommended", lambda self, adapter: card)


@pytest.mark.parametrize(("steps", "warmup_steps"), [(1, 0), (20, 10), (500, 250), (1000, 500), (4000, 500)])
def test_steps_have_the_warmup_of_as_many_epochs(steps, warmup_steps, monkeypatch):
    """5 epochs of 2000 items in batches of 10 are 1000 steps."""
    with_card(monkeypatch, epochs=5, warmup_steps=500)
    config = RunConfig(Lora(), Pokemon(), Train(steps=steps)).resolved()
    assert config.train.warmup_steps is None
    assert config.for_items(2000).warmup_steps == warmup_steps
    assert config.for_items(None).warmup_steps < steps, "a warmup that nobody typed leaves steps to train"
    assert RunConfig(Lora(), Pokemon(), Train()).resolved().for_items(2000).warmup_steps == 500


@pytest.mark.parametrize(
    ("length", "first", "second"),
    [
        ({"epochs": 2}, {"steps": 400, "warmup_steps": 20}, {"steps": 400, "warmup_steps": 40}),
        ({"epochs": 2}, {"steps": 400, "warmup_steps": 20}, {"steps": 800, "warmup_steps": 20}),
        ({"steps": 9}, {"epochs": 5, "warmup_steps": 500}, {"epochs": 6, "warmup_steps": 500}),
    ],
)
def test_a_run_whose_warmup_follows_from_the_card_is_named_by_it(length, first, second, monkeypatch):
    names = set()
    for card in (first, second):
        with_card(monkeypatch, **card)
        names.add(fingerprint(RunConfig(Lora(), Pokemon(), Train(**length)).resolved()))
    assert len(names) == 2


def name_of(data: str, init: str | None = None) -> str:
    return fingerprint(RunConfig(Lora(init=init), Style(data=data)).resolved())


def test_a_run_is_named_by_the_content_of_its_data(tmp_path):
    text = "".join(f"Paragraph {i} of a text that is long enough to be split. {'word ' * 200}\n\n" for i in range(60))
    first, copy, other = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    for file in (first, copy):
        file.write_text(text)
    other.write_text(text.replace("long", "tall", 1))
    assert name_of(str(first)) == name_of(str(copy))
    before = name_of(str(first))
    assert name_of(str(other)) != before
    first.write_text(text + "One more line.")
    assert name_of(str(first)) != before


def test_a_run_is_named_by_the_content_of_its_initial_adapter(tmp_path):
    file = tmp_path / "adapter.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    before = name_of("python-reference", str(file))
    assert before != name_of("python-reference")
    save_file({"a": torch.ones(2)}, file)
    assert name_of("python-reference", str(file)) != before


def test_a_run_is_named_by_the_content_of_its_base(monkeypatch):
    names = set()
    for revision in ("one", "two"):
        monkeypatch.setattr(Pokemon, "content_digests", lambda self, revision=revision: {"base": revision})
        names.add(fingerprint(RunConfig(Lora(), Pokemon()).resolved()))
    assert len(names) == 2


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (Train(steps=5, epochs=5), "not both"),
        (Train(ema_decay=1.0), "ema-decay must be"),
        (Train(optimizer="adamw-8bit"), "pip install bitsandbytes"),
        (Train(report_to="tensorboard"), r"needs tensorboard, which is not installed: .*adapter-testbed\[trackers\]"),
        (Train(report_to="wandb"), r"needs wandb, which is not installed: .*adapter-testbed\[trackers\]"),
    ],
)
def test_settings_that_cannot_work_are_one_sentence(train, message, monkeypatch):
    for package in ("bitsandbytes", "tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, package, None)
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
    ("train", "message"),
    [
        (Train(batch_size=0), "--train.batch-size must be at least 1"),
        (Train(learning_rate=0), "--train.learning-rate must be above 0"),
        (Train(validation_steps=0), "--train.validation-steps must be at least 1"),
        (Train(checkpointing_steps=0), "--train.checkpointing-steps must be at least 1"),
        (Train(seed=2**32), "--train.seed must be at least 0 and at most 4294967295, not 4294967296"),
    ],
)
def test_bounds(train, message):
    with pytest.raises(UsageError, match=message):
        RunConfig(Lora(), Pokemon(), train).resolved()
    assert RunConfig(Lora(), Pokemon(), Train(seed=2**32 - 1)).resolved().train.seed == 2**32 - 1


def test_all_wrong_numbers_are_named_at_once():
    with pytest.raises(UsageError, match=r"--train\.batch-size must .*; --train\.seed must"):
        RunConfig(Lora(), Pokemon(), Train(batch_size=0, seed=-1)).resolved()


def test_an_unknown_setting_in_a_record_is_refused():
    record = RunConfig(Lora(), Pokemon()).resolved().as_record()
    record["adapter"]["rnak"] = 3
    with pytest.raises(UsageError, match="did you mean 'rank'"):
        RunConfig.from_record(record)


def test_a_card_with_an_unknown_setting_is_refused(monkeypatch):
    monkeypatch.setattr(Pokemon, "recommended", lambda self, adapter: {"batch": 4})
    with pytest.raises(UsageError, match=r"recommends 'batch'.*did you mean 'batch_size'"):
        RunConfig(Lora(), Pokemon()).resolved()
