"""Data that do not fit: long rows, unknown slots, a token without an embedding; each said before or in the record."""

import json
import math
import shutil

import pytest
import torch

from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.records.load_run import load_run
from experiments.session import run
from reports.records import collect
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.model import bases
from tasks.language.style import Style

CPU = torch.device("cpu")


def write_meanings(file, slots="food[Thai]", count=30, words=1):
    rows = [f'"name[Place {i}], {slots}","Place {i} is {"very " * (i % words)}good."' for i in range(count)]
    file.write_text("\n".join(["mr,ref", *rows]) + "\n")
    return str(file)


def small(tiny_base, data):
    return EndToEnd(
        base=tiny_base, data=data, on_bad_item="skip", test_items=4, drift_items=2, max_new_tokens=8, num_beams=1
    )


def test_rows_that_a_prefix_leaves_no_room_for_are_left_out_and_counted(tiny_base, tmp_path, capsys):
    data = write_meanings(tmp_path / "rows.csv", words=12)
    with open(data, "a") as rows:
        rows.write('"name[Without text]",\n')
    task = small(tiny_base, data)
    lengths = sorted(len(prompt) + len(text) for prompt, text in task.prepare(CPU).training)
    room = lengths[len(lengths) // 2]
    capsys.readouterr()
    record = run(PrefixTuning(length=160 - room), task, steps=1, device="cpu", runs=tmp_path / "runs")
    facts = json.loads((record.folder / "result.json").read_text())["facts"]
    kind = "training pairs longer than the base's positions"
    assert facts["positions_left"] == room
    assert facts["train_items"] == sum(length <= room for length in lengths) < len(lengths)
    assert facts["left_out"][kind] == sum(length > room for length in lengths)
    printed = capsys.readouterr().err
    assert printed.count(f"left out: {kind}") == 1
    assert printed.count("left out: empty references: 1 (line 32)") == 1
    texts = load_run(record.folder).base.generate(["name[Place 1], food[Thai]"], max_new_tokens=500)
    assert len(texts) == 1


def test_a_prefix_that_leaves_no_row_is_refused_before_training(tiny_base, tmp_path):
    task = small(tiny_base, write_meanings(tmp_path / "rows.csv"))
    with pytest.raises(TaskError, match="choose a smaller size of the method"):
        run(PrefixTuning(length=155), task, steps=1, device="cpu", runs=tmp_path / "runs")


def test_the_rows_of_a_text_become_shorter(tiny_base, text_file):
    prepared = Style(base=tiny_base, data=text_file, test_items=2, drift_items=2).prepare(CPU)
    prepared.reserve_positions(60)
    assert prepared.facts["max_length"] == 100
    assert max(len(prompt) + len(text) for prompt, text in prepared.training + prepared.familiar) <= 100
    prepared.reserve_positions(0)
    assert prepared.facts["max_length"] == 128


def test_figures_that_cannot_be_measured_are_left_out_with_the_reason(tiny_base, tmp_path):
    task = small(tiny_base, str(tmp_path / "rows.csv"))
    rows = [f'"city[Paris {i}], weather[wet]","It rains in Paris {i}."' for i in range(30)]
    (tmp_path / "rows.csv").write_text("\n".join(["mr,ref", *rows]) + "\n")
    record = run(Lora(rank=1), task, steps=1, device="cpu", runs=tmp_path / "runs")
    content = json.loads((record.folder / "result.json").read_text(), parse_constant=pytest.fail)
    assert not {"slot_accuracy", "slots_wrong", "slots_missing", "slots_added"} & content["metrics"].keys()
    assert "no test meaning has any of the slots name, near" in content["facts"]["not_measured"]["slot_accuracy"]
    assert "java" in content["facts"]["not_measured"]["meteor"]
    assert all(math.isfinite(figure["value"]) for figure in content["metrics"].values())
    collection = collect(tmp_path / "runs")
    assert len(collection.finished) == 1
    assert not collection.unreadable


def test_fewer_items_than_a_step_takes_are_said(tiny_base, tmp_path, capsys):
    task = small(tiny_base, write_meanings(tmp_path / "rows.csv"))
    for batch_size, said in ((8, False), (32, True)):
        run(Lora(rank=1), task, steps=1, batch_size=batch_size, device="cpu", runs=tmp_path / "runs")
        sentence = "24 training items are fewer than the 32 of a step: items repeat"
        assert (sentence in capsys.readouterr().err) is said


def test_a_token_without_an_embedding_is_refused(tiny_base, tmp_path):
    folder = tmp_path / "base"
    shutil.copytree(tiny_base, folder)
    tokenizer = bases.load(str(folder), CPU).tokenizer
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.save_pretrained(folder)
    with pytest.raises(TaskError, match=r"has the token '\[PAD\]' with number \d+, but its model has \d+ embeddings"):
        bases.load(str(folder), CPU)


def test_a_text_without_line_breaks_is_told_what_it_lacks(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("word " * 9000)
    with pytest.raises(TaskError, match=r"too few line breaks: .*45,000 characters in 1 line\); add line breaks"):
        Style(data=str(file)).content_digests()


@pytest.mark.parametrize("content", ["too short\n", "word " * 200 + "\n"])
def test_a_text_that_is_too_short_is_found_before_the_base_is_loaded(tmp_path, monkeypatch, content):
    monkeypatch.setattr(bases, "load", lambda *_: pytest.fail("the base was loaded first"))
    file = tmp_path / "text.txt"
    file.write_text(content)
    with pytest.raises(TaskError, match="too short"):
        Style(data=str(file)).content_digests()
    with pytest.raises(TaskError, match="too short"):
        Style(data=str(file)).prepare(CPU)
