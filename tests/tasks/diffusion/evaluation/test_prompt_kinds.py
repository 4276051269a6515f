"""Prompts of four kinds: what they say, what they share with training, and their figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.session import base_evaluation, run
from tasks.bundled.bundled_bases import SCORER
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.evaluation.evaluation import SHOWN
from tasks.diffusion.evaluation.features import features_of
from tasks.diffusion.evaluation.metrics.vendi import vendi_score
from tasks.diffusion.evaluation.prompt_kinds import BUNDLED_STYLES, KINDS, in_styles, named
from tasks.diffusion.evaluation.prompts import Prompt
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.creatures import Creatures
from tests.tasks.diffusion.tiny_base import write_base, write_pictures

CPU, COUNT = torch.device("cpu"), 10
FEW: dict[str, Any] = {"drift_items": 2, "resolution": 16, "test_items": 3, "prompt_kind_items": COUNT}


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    return str(write_base(tmp_path_factory.mktemp("sd") / "base"))


@pytest.fixture
def pokemon(base) -> Pokemon:
    return Pokemon(base=base, **FEW, train_items=4, validation_items=2)


@pytest.fixture
def dreambooth(base) -> DreamBooth:
    return DreamBooth(base=base, **FEW, held_out=3, train_items=2, prior_preservation=False)


def kinds_of(task):
    task = task.filled()
    splits = task.splits(16)
    return task.prompts_of_kinds(splits), splits


def test_creatures_in_four_kinds(pokemon):
    kinds, splits = kinds_of(pokemon)
    world = Creatures()
    assert list(kinds) == list(KINDS)
    assert {len(prompts) for prompts in kinds.values()} == {COUNT}
    assert [p.text for p in kinds["trained"]] == [splits.train.captions[i % 4] for i in range(COUNT)]
    assert {p.text for p in kinds["trigger"]} == {"a creature"}
    for trained, content in zip(kinds["trained"], kinds["content"], strict=True):
        assert not world.held_out(dict(trained.attributes))
        assert world.held_out(dict(content.attributes))
        changed = {name for name in trained.attributes if trained.attributes[name] != content.attributes[name]}
        assert changed <= {"colour", "eyes", "head"}
        assert content.text in world.captions(dict(content.attributes))
    assert [p.attributes for p in kinds["style"]] == [p.attributes for p in kinds["trained"]]
    assert {p.text for p in kinds["style"]}.isdisjoint(splits.train.captions)


def test_a_subject_in_four_kinds(dreambooth):
    kinds, splits = kinds_of(dreambooth)
    assert {p.text for p in kinds["trained"]} == set(splits.train.captions)
    assert {(p.text, p.caption) for p in kinds["trigger"]} == {("sks mushroom", ["a picture", "a mushroom"][1])}
    backgrounds = {p.attributes["background"] for p in kinds["content"]}
    assert backgrounds
    assert all(Character().held_out({"background": background}) for background in backgrounds)
    assert {example["background"] for example in splits.train.attributes}.isdisjoint(backgrounds)
    assert all("sks" not in p.caption for prompts in kinds.values() for p in prompts)


def test_a_folder_of_pictures_has_no_trigger(base, tmp_path):
    task = Pokemon(base=base, data=str(write_pictures(tmp_path / "data", 20)), **FEW)
    kinds, _ = kinds_of(task)
    assert list(kinds) == list(task.metrics_of_kinds()) == ["trained", "style"]
    assert not {"trained_alignment", "trigger_similarity"} & task.all_metrics().keys()


@pytest.mark.parametrize(
    ("text", "trigger"),
    [("a photo of sks dog", "sks dog"), ("a picture of a sks cat", "a sks cat"), ("sks dog", "sks dog")],
)
def test_the_trigger_is_the_prompt_without_its_medium(text, trigger):
    assert named(text) == trigger


def test_styles_come_in_turn_and_the_bundled_base_has_its_own():
    prompts = [Prompt(f"a photo of x{i}", f"a photo of y{i}", {"kind": "car"}) for i in range(5)]
    published = in_styles(prompts, "sd-2-1")
    assert len({p.text.split(" x")[0] for p in published}) == 4
    assert published[4].text == published[0].text.replace("x0", "x4")
    assert (published[0].caption, published[0].attributes) == (published[0].text.replace("x", "y"), {"kind": "car"})
    assert {p.text.split(" x")[0] for p in in_styles(prompts, "mini")} == set(BUNDLED_STYLES)


@pytest.mark.parametrize("name", ["pokemon", "dreambooth"])
def test_every_kind_has_figures_and_the_others_stay(name, request, tmp_path):
    task = request.getfixturevalue(name)
    plain = replace(task, prompt_kind_items=0)
    with_kinds, without = task.prepare(CPU), plain.prepare(CPU)
    figures = with_kinds.finish(with_kinds.evaluate(tmp_path), base_evaluation(with_kinds)).figures
    usual = without.finish(without.evaluate(), base_evaluation(without)).figures
    assert {n: f.value for n, f in usual.items()} == {n: figures[n].value for n in usual}
    added = figures.keys() - usual.keys()
    assert added == task.all_metrics().keys() - task.metrics.keys()
    for kind in KINDS:
        assert {f"{kind}_similarity", f"{kind}_clip_score", f"{kind}_vendi"} <= added
        assert len(list((tmp_path / "prompt-kinds" / kind).glob("*.png"))) == SHOWN
    assert ("trigger_alignment" in added) == (name == "dreambooth"), "a creature alone names no attribute"
    assert {figures[n].n for n in added} == {COUNT}
    assert with_kinds.facts["prompt_kinds"]["content"]["n"] == COUNT
    kinds = with_kinds.evaluation.inputs.sampled.kinds
    alone = with_kinds.evaluation.inputs.of_kind("content")
    shown = alone.attributes_shown("pictures", task.metrics["alignment"].world)
    names = ("kind", "background") if name == "dreambooth" else ("eyes", "head", "limb")
    hits = [
        sum(s[a] == p.attributes[a] for a in names) / len(names) for s, p in zip(shown, kinds["content"], strict=True)
    ]
    assert figures["content_alignment"].value == pytest.approx(sum(hits) / COUNT)
    features = features_of(alone.models.extractor, alone.pictures, CPU)
    assert figures["content_vendi"].value == pytest.approx(vendi_score(features))


def test_diversity_needs_ten_prompts_of_a_kind(pokemon):
    prepared = replace(pokemon, prompt_kind_items=9).prepare(CPU)
    reasons = prepared.evaluation.reasons()
    assert reasons["style_vendi"] == "needs --task.prompt-kind-items 10 or more, for an interval"
    assert "style_similarity" not in reasons


@pytest.mark.parametrize(
    "evaluation",
    [
        {"prompt_kind_items": COUNT},
        {"num_inference_steps": 1, "guidance_scale": 3.0},
        {"scorer": str(SCORER), "evaluation_seeds": 2},  # training does not read the scorer's files
    ],
    ids=" ".join,
)
def test_a_finished_run_is_only_evaluated(pokemon, tmp_path, evaluation):
    """With the figures of a run that trains."""
    train: dict[str, Any] = {"train": Train(device="cpu", steps=2, batch_size=2)}
    plain = replace(pokemon, prompt_kind_items=0)
    first = run(Lora(rank=1), plain, **train, runs=tmp_path / "runs")
    second, trained = (
        run(Lora(rank=1), replace(plain, **evaluation), **train, runs=tmp_path / folder) for folder in ("runs", "own")
    )
    assert second.data["facts"]["trained_in"] == first.folder.name
    assert "trained_in" not in trained.data["facts"]
    assert second.data["metrics"] == trained.data["metrics"] != first.data["metrics"]
    assert ("style_clip_score" in second.data["metrics"]) == ("prompt_kind_items" in evaluation)


@pytest.mark.parametrize(
    ("curve", "prompts"), [({"evaluate_every": 1, "evaluate_share": 1}, ()), ({"validation_steps": 1}, ("a bird",))]
)
def test_what_training_writes_belongs_to_the_runs_own_evaluation(pokemon, tmp_path, curve, prompts):
    train = Train(device="cpu", steps=2, batch_size=2, **curve)
    plain = replace(pokemon, prompt_kind_items=0, validation_prompts=prompts)
    run(Lora(rank=1), plain, train=train, runs=tmp_path)
    other = run(Lora(rank=1), replace(plain, guidance_scale=3.0), train=train, runs=tmp_path)
    assert "trained_in" not in other.data["facts"]


def test_a_plan_counts_the_pictures_of_every_kind(pokemon):
    config = RunConfig(Lora(), pokemon, Train(device="cpu", steps=2))
    counts = {}
    for items in (0, COUNT):
        task = replace(config.task, prompt_kind_items=items)
        calls = task.meta_model().evaluation(CPU)
        counts[items] = next(c.count for c in calls if "sampling" in c.name)
    steps = pokemon.filled().num_inference_steps
    assert counts[COUNT] - counts[0] == 4 * steps
