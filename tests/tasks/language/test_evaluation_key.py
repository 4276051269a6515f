"""The cached evaluation of the base is reused only if everything that `evaluate` reads is the same."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.session import base_evaluation
from tasks import EndToEnd, Style, Task
from tasks.language.data import e2e_data, style_data
from tests.tasks.json_file import edit_json

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def e2e(tiny_base, e2e_csv, tmp_path) -> EndToEnd:
    """On copies of base and data, so that a test can change them."""
    shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copy(e2e_csv, tmp_path / "data.csv")
    return EndToEnd(
        base=str(tmp_path / "base"), data=str(tmp_path / "data.csv"), drift_items=2, num_beams=1, max_new_tokens=3
    )


@pytest.fixture
def style(tiny_base, text_file, tmp_path) -> Style:
    shutil.copytree(tiny_base, tmp_path / "base")
    shutil.copy(text_file, tmp_path / "text.txt")
    return Style(
        base=str(tmp_path / "base"), data=str(tmp_path / "text.txt"), test_items=4, drift_items=2, max_length=64
    )


def key(task: Task):
    return json.dumps(task.prepare(CPU).evaluation_key)


def assert_measured(task: Task) -> None:
    """The base's figures that a run records are those of a fresh evaluation."""
    prepared = task.prepare(CPU)
    recorded, measured = base_evaluation(prepared).figures, prepared.evaluate().figures
    assert {name: figure.value for name, figure in recorded.items()} == pytest.approx(
        {name: figure.value for name, figure in measured.items()}
    )


def test_a_repeated_run_reads_the_cache(style, monkeypatch):
    base_evaluation(style.prepare(CPU))
    prepared = style.prepare(CPU)
    monkeypatch.setattr(prepared, "evaluate", lambda: pytest.fail("evaluated again"))
    base_evaluation(prepared)


@pytest.mark.parametrize("name", ["e2e", "style"])
def test_the_bases_configuration(name, request):
    task = request.getfixturevalue(name)
    before = base_evaluation(task.prepare(CPU)).figures
    edit_json(Path(task.base) / "config.json", layer_norm_epsilon=0.5)
    assert_measured(task)
    after = base_evaluation(task.prepare(CPU)).figures
    assert after["validation_loss"].value != before["validation_loss"].value


@pytest.mark.parametrize("file", ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_every_file_of_the_base_is_in_the_key(style, file):
    before = key(style)
    content = (Path(style.base) / file).read_text()
    (Path(style.base) / file).write_text(content + "\n")
    assert key(style) != before


def test_the_bases_card_and_its_documentation_are_not(style):
    before = key(style)
    (Path(style.base) / "README.md").write_text("A tiny model")
    card = {"targets": ["query"], "generation": {"no_repeat_ngram_size": 0}}
    (Path(style.base) / "card.json").write_text(json.dumps(card))
    assert key(style) == before


def test_one_text_of_a_reference(e2e):
    prepared = e2e.prepare(CPU)
    base_evaluation(prepared)
    reference = prepared.splits.test[0].references[0]
    file = Path(e2e.data)
    file.write_text(file.read_text().replace(reference, reference + " Indeed."))
    assert_measured(e2e)


def test_one_word_of_the_text(style):
    base_evaluation(style.prepare(CPU))
    file = Path(style.data)
    file.write_text(file.read_text().replace("line 0 of", "line zero of"))  # in a validation part
    assert_measured(style)


@pytest.mark.parametrize(("name", "module"), [("e2e", e2e_data), ("style", style_data)])
def test_validation_items_alone(name, module, request, monkeypatch):
    task = request.getfixturevalue(name)
    base_evaluation(task.prepare(CPU))
    load = module.load

    def with_fewer_validation_items(*arguments):
        splits = load(*arguments)
        return replace(splits, validation=splits.validation[:1])

    monkeypatch.setattr(module, "load", with_fewer_validation_items)
    assert_measured(task)


@pytest.mark.parametrize(
    "change",
    [
        {"num_beams": 2},
        {"length_penalty": 0.5},
        {"no_repeat_ngram_size": 2},
        {"max_new_tokens": 4},
        {"test_items": 2},
        {"drift_items": 3},
    ],
    ids=lambda change: next(iter(change)),
)
def test_settings_of_the_evaluation_are_in_the_key(e2e, change):
    csv_with_more = Path(e2e.data)
    csv_with_more.write_text(csv_with_more.read_text() + more_rows())
    assert key(replace(e2e, **change)) != key(e2e)


def more_rows() -> str:
    return "".join(f'"name[The Mill {i}], food[Thai]","The Mill {i} serves Thai food."\n' for i in range(20))


def test_settings_of_training_are_not(e2e):
    assert key(replace(e2e, label_smoothing=0.0)) == key(e2e)


def test_a_metrics_version_is_in_the_key(style):
    prepared = style.prepare(CPU)
    before = json.dumps(prepared.evaluation_key)
    prepared.metrics = {name: replace(metric, version=2) for name, metric in prepared.metrics.items()}
    assert json.dumps(prepared.evaluation_key) != before
