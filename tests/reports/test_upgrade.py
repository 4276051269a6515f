"""Records of the last release (schema 1): every report shows them, and runs of both schemas share a row.

`golden/schema_1` holds four runs and an imported record written by release aa86512 (steps and items shortened), and
records written by hand of the method that was called `adapter`. `golden/schema_1_settings.json` holds the default
settings of every method and task of that release.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import fields, replace
from pathlib import Path

import msgspec
import pytest

from adapters.base import adapter_registry
from adapters.interchange import native
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from reports import frame, table
from reports.__main__ import main
from reports.costs.table import build_cost_table
from reports.errors import ReportError
from reports.paper import read_paper
from reports.records import collect, read_run
from reports.tables import build
from reports.upgrade import (
    ADDED_SETTINGS,
    JSON_TEXTS,
    RENAMED_SETTINGS,
    RENAMED_VALUES,
    upgrade,
    upgrade_config,
)
from tasks.base import task_registry
from tests.reports.synthetic import record, write

GOLDEN = Path(__file__).parent / "golden"
RUNS = GOLDEN / "schema_1"
OLD = json.loads((GOLDEN / "schema_1_settings.json").read_text())


def test_every_golden_record_is_read():
    collection = collect(RUNS)
    assert (len(collection.finished), len(collection.unreadable), len(collection.intrinsic)) == (7, 0, 1)
    assert {run.record.method for run in collection.of_task("e2e").finished} == {
        "lora",
        "subspace",
        "prefix",
        "bottleneck",
        "bottleneck-truncated",
    }


@pytest.mark.parametrize("method", OLD["adapter"])
def test_every_method_of_the_last_release_has_its_settings(method):
    config = upgrade_config({"adapter": OLD["adapter"][method], "task": OLD["task"]["e2e"], "train": OLD["train"]})
    restored = RunConfig.from_record(config)
    assert type(restored.adapter) is adapter_registry()[config["adapter"]["name"]]
    _check_added(f"adapter.{method}", restored.adapter, config["adapter"])


@pytest.mark.parametrize("task", OLD["task"])
def test_every_task_of_the_last_release_has_its_settings(task):
    config = upgrade_config({"adapter": OLD["adapter"]["lora"], "task": OLD["task"][task], "train": OLD["train"]})
    restored = RunConfig.from_record(config)
    assert type(restored.task) is task_registry()[config["task"]["name"]]
    _check_added(f"task.{task}", restored.task, config["task"])


def test_the_training_settings_of_the_last_release():
    _check_added("train", Train(), upgrade_config({"train": OLD["train"]})["train"])


def _check_added(owner: str, settings, recorded) -> None:
    """A setting added since then must be in ADDED_SETTINGS, so that older runs stay in the same row."""
    part = owner.split(".")[0]
    added = {f"{part}.{f.name}" for f in fields(settings) if f.name not in recorded}
    missing = sorted(added - ADDED_SETTINGS.keys())
    assert not missing, f"{owner}: add {missing} to reports.upgrade.ADDED_SETTINGS, or the old name to RENAMED_SETTINGS"


@pytest.mark.parametrize("name", ["e2e/lora/e69b555c8545", "sd-pokemon/lora/d66477bb4c82"])
def test_a_lora_of_the_last_release_keeps_its_scale_and_its_name(name):
    """Its alpha was null and meant the rank, its weight decay was .01; neither is today's default."""
    config = RunConfig.from_record(upgrade(json.loads((RUNS / name / "result.json").read_text()))["config"])
    assert isinstance(config.adapter, Lora)
    assert {config.adapter.scaling(rank) for rank in (1, 4, 16)} == {1.0}
    identity = config.identity()
    assert "alpha" not in identity["adapter"]
    assert "weight_decay" not in identity["train"]
    todays = replace(config, adapter=Lora(rank=config.adapter.rank), train=replace(config.train, weight_decay=0.0))
    assert todays.identity()["adapter"]["alpha"] == Lora().alpha
    assert todays.identity()["train"]["weight_decay"] == 0.0


@pytest.mark.parametrize(("part", "old"), [(part, old) for part, names in RENAMED_SETTINGS.items() for old in names])
def test_every_renamed_setting_existed_and_exists_under_its_new_name(part, old):
    holders = [OLD[part]] if part == "train" else [each for each in OLD[part].values() if old in each]
    assert [each for each in holders if old in each]
    classes = {"adapter": adapter_registry(), "task": task_registry(), "train": {"train": Train}}[part]
    new = RENAMED_SETTINGS[part][old]
    assert new in {f.name for cls in classes.values() for f in fields(cls)}
    assert upgrade_config({part: {old: 7}}) == {part: {new: 7}}


@pytest.mark.parametrize(
    ("part", "setting", "old", "new"), [(*k, o, n) for k, v in RENAMED_VALUES.items() for o, n in v.items()]
)
def test_renamed_values(part, setting, old, new):
    assert upgrade_config({part: {setting: old}}) == {part: {setting: new}}
    assert upgrade_config({part: {setting: [old]}}) == {part: {setting: [old]}}  # only a value as a whole


def test_adapter_files_and_records_are_upgraded_alike():
    """`adapters` cannot import `reports`, so `native` has its own copy of the table for the settings of methods."""
    assert RENAMED_SETTINGS["adapter"] == native.RENAMED
    values = {setting: names for (part, setting), names in RENAMED_VALUES.items() if part == "adapter"}
    assert values == native.RENAMED_VALUES
    saved = {"name": "adapter", "initialisation": "normal", "rank_stabilised": True, "options": '{"r": 8}'}
    metadata = {native.SETTINGS: json.dumps(saved)}
    assert native.saved_settings(metadata, Path("x")) == upgrade_config({"adapter": saved})["adapter"]
    assert {("adapter", "options")} == JSON_TEXTS


def as_schema_2(folder: Path, seed: int) -> Path:
    """The same run as today's release writes it, with another seed."""
    path = folder / "result.json"
    content = upgrade(json.loads(path.read_text()))
    content["seed"] = content["config"]["train"]["seed"] = seed
    copy = folder.with_name(f"{folder.name[:-1]}{seed}")
    shutil.copytree(folder, copy)
    (copy / "result.json").write_text(json.dumps(content | {"fingerprint": copy.name}))
    return copy


@pytest.fixture
def both(tmp_path: Path) -> Path:
    """The golden runs, and two of them again as schema 2 writes them, with other seeds."""
    runs = tmp_path / "runs"
    shutil.copytree(RUNS, runs)
    as_schema_2(runs / "e2e" / "lora" / "e69b555c8545", 1)
    as_schema_2(runs / "e2e" / "adapter" / "0123456789ab", 1)
    return runs


def test_runs_of_both_schemas_share_a_row(both):
    rows = {group.label: len(group.finished) for group in build(collect(both), "e2e").rows}
    assert rows == {"lora 4": 2, "bottleneck 16": 2, "bottleneck-truncated 2": 1, "prefix 16": 1, "subspace 10000": 1}


def test_text_scores_that_are_computed_otherwise_today_keep_a_name_of_their_own():
    old = json.loads((RUNS / "e2e" / "lora" / "e69b555c8545" / "result.json").read_text())["metrics"]
    new = read_run(RUNS / "e2e" / "lora" / "e69b555c8545").record.metrics
    names = {"bleu": "bleu", "nist": "nist_nltk", "rouge_l": "rouge_l_13a", "slot_accuracy": "slot_accuracy"}
    assert {old_name: new[name].value for old_name, name in names.items()} == {
        name: old[name]["value"] for name in names
    }
    assert not {"nist", "meteor", "rouge_l", "cider"} & new.keys()


@pytest.mark.parametrize(("old_is_newer", "value"), [(False, 7.0), (True, None)])
def test_a_run_repeated_by_todays_release_counts_once(tmp_path, old_is_newer, value):
    runs = tmp_path / "runs"
    shutil.copytree(RUNS, runs)
    old = runs / "e2e" / "lora" / "e69b555c8545"
    new = as_schema_2(old, 0)
    content = json.loads((new / "result.json").read_text())
    content["metrics"]["bleu"]["value"] = 7.0
    (new / "result.json").write_text(json.dumps(content))
    os.utime((old if old_is_newer else new) / "result.json", (2e9, 2e9))
    rows = table(runs, "e2e").set_index("method")
    assert rows.loc["lora", "seeds"] == 1
    assert rows.loc["lora", "bleu"] == (value or read_run(old).record.metrics["bleu"].value)
    left_out = new if old_is_newer else old
    note = f"Left out: 1 older run with the settings and the seed of another run: lora 4 ({left_out.name})."
    assert note in rows.attrs["notes"]


def test_a_setting_added_later_does_not_split_a_row(both, monkeypatch):
    path = both / "e2e" / "lora" / "e69b555c8541" / "result.json"
    content = json.loads(path.read_text())
    content["config"]["train"]["added_later"] = 3
    path.write_text(json.dumps(content))
    labels = [group.label for group in build(collect(both), "e2e").rows]
    assert labels.count("lora 4") == 2
    for reports_module in ("reports.run_groups", "reports.upgrade"):
        monkeypatch.setattr(f"{reports_module}.ADDED_SETTINGS", {"train.added_later": 3})
    labels = [group.label for group in build(collect(both), "e2e").rows]
    assert labels.count("lora 4") == 1


@pytest.mark.parametrize("form", ["terminal", "md", "csv", "latex"])
@pytest.mark.parametrize("task", ["e2e", "sd-pokemon", "peft-images"])
def test_table(task, form, capsys):
    main(["table", task, "--runs", str(RUNS), "--format", form])
    assert "lora" in capsys.readouterr().out


def test_page(tmp_path, capsys):
    main(["page", "--runs", str(RUNS), "--output", str(tmp_path)])
    text = (tmp_path / "index.html").read_text()
    for part in ("bottleneck", "prefix", "subspace", "dino_similarity", "data:image/png", "gain of full in bleu"):
        assert part in text


def test_frame():
    rows = frame(RUNS, "e2e").set_index("fingerprint")
    assert rows.loc["0123456789ab", "method"] == "bottleneck"
    lora = rows.loc["e69b555c8545"]
    assert (lora["task.num_beams"], lora["train.batch_size"], lora["train.warmup_steps"]) == (4, 8, 30)
    assert (lora["adapter.use_rslora"], lora["train.mixed_precision"]) == (False, "no")


def test_compare(capsys):
    runs = [RUNS / "e2e" / name for name in ("adapter/0123456789ab", "subspace/23bb8f205942")]
    main(["compare", *map(str, runs)])
    text = capsys.readouterr().out
    assert "A: bottleneck width 16 seed 0" in text
    assert "task." not in text  # no evaluation setting differs


def test_costs_and_paper():
    costs = build_cost_table(RUNS, "e2e")
    assert [row.costs.method for row in costs.rows if row.costs] == ["bottleneck"]
    assert not costs.unreadable
    assert read_paper(RUNS).counts[0].ours == 393216


def test_an_intrinsic_dimension():
    (result,) = collect(RUNS).intrinsic.values()
    assert [(curve.name, curve.method) for curve in result.curves] == [("bottleneck", "bottleneck")]
    content = upgrade(json.loads((RUNS / "e2e" / "intrinsic-0123456789ab.json").read_text()))
    assert content["settings"]["task"] == {"name": "e2e", "num_beams": 1}
    assert content["settings"]["train"] == {"steps": 300, "warmup_steps": 10}


def test_an_unknown_schema_is_refused_in_one_sentence(tmp_path):
    folder = write(tmp_path, record(schema=3))
    with pytest.raises(ReportError, match="schema version 3 is unknown, expected 1 to 2"):
        read_run(folder)
    (reason,) = [reason for _, reason in collect(tmp_path).unreadable]
    assert len(reason.splitlines()) == 1
    (tmp_path / "paper.json").write_text('{"schema": 3, "counts": [], "claims": []}')
    with pytest.raises(ReportError, match="schema version 3"):
        read_paper(tmp_path)


@pytest.mark.parametrize(
    "content", [[], "x", None, 1, {"schema": 3}, {"schema": 2, "headline": "kid"}, {"schema": "1"}]
)
def test_anything_but_schema_1_is_left_alone(content):
    assert upgrade(content) == content


@pytest.mark.parametrize(
    "change",
    [{"config": 1}, {"config": {"adapter": 1}}, {"method": []}, {"curves": 3}, {"curves": [1]}, {"settings": [1]}],
)
def test_a_malformed_record_is_left_to_the_reader(change):
    assert upgrade({"schema": 1} | change) == {"schema": 2} | change
    assert msgspec.json.encode(upgrade({"schema": 1} | change))
