"""Using a finished run: pictures, texts, pipelines, exports to other tools."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from adapters.errors import AdapterError
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from adapters.subspace import Subspace
from experiments import export, generate, sample
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import RunFolder, write_json
from experiments.records.load_run import load_models, load_run, runs_and_prompts
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style
from tests.experiments.finished_run import CPU, finished_run
from tests.tasks.language.conftest import tiny_base  # noqa: F401  (a fixture)

PROMPT = "a round green creature with horns"
MEANING = "name[The Mill], food[Italian]"
TRAIN = Train(steps=1, device="cpu")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    run = finished_run(RunConfig(Lora(rank=2, alpha=8.0), Pokemon(), TRAIN), tmp_path_factory.mktemp("runs"), 0.1)
    record = json.loads(run.result_file.read_text())
    record["facts"]["sampling"] = {"solver": "DPM-Solver++", "num_inference_steps": 5, "guidance_scale": 2.5}
    run.result_file.write_text(json.dumps(record))
    return run


@pytest.fixture(scope="module")
def language_run(tmp_path_factory, tiny_base):  # noqa: F811
    task = EndToEnd(base=tiny_base, max_new_tokens=8)
    return finished_run(RunConfig(Lora(rank=2, alpha=8.0), task, TRAIN), tmp_path_factory.mktemp("runs"))


def run_command(monkeypatch, main, *words) -> None:
    monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
    main()


def cells(file) -> list[list[np.ndarray]]:
    """The pictures of a grid, by row and column."""
    from tasks.diffusion.evaluation.grid import CELL, LABEL, MARGIN

    page = np.asarray(Image.open(file))
    top = page.shape[0] % (CELL + MARGIN)
    rows, columns = (page.shape[0] - top) // (CELL + MARGIN), (page.shape[1] - LABEL) // (CELL + MARGIN)
    places = [[(top + r * (CELL + MARGIN), LABEL + c * (CELL + MARGIN)) for c in range(columns)] for r in range(rows)]
    return [[page[y : y + CELL, x : x + CELL] for y, x in row] for row in places]


def test_a_prompt_that_is_cut_is_counted_and_its_title_shortened(pictures, monkeypatch, tmp_path, capsys):
    words = [pictures.path, "a round green creature " * 50, PROMPT, "--num-images-per-prompt", 1]
    run_command(monkeypatch, sample.main, *words, "--num-inference-steps", 1, "--output", tmp_path / "a.png")
    sentence = "prompts longer than the 32 tokens that the text encoder reads (with start and end): 1 of 2"
    assert sentence in capsys.readouterr().err
    lines, margins = 16 * 13, 3 * 6
    assert Image.open(tmp_path / "a.png").height == lines + 128 + margins


def test_a_grid_with_its_settings(pictures, monkeypatch, tmp_path, capsys):
    words = [pictures.path, PROMPT, "--num-images-per-prompt", 2, "--num-inference-steps", 2]
    words += ["--seed", 3, "--compare", "base"]
    run_command(monkeypatch, sample.main, *words, "--output", tmp_path / "a.png")
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.png")
    facts = json.loads(Image.open(tmp_path / "a.png").text[sample.METADATA])  # type: ignore[attr-defined]
    assert facts["prompts"] == [PROMPT]
    assert (facts["seed"], facts["num_inference_steps"]) == (3, 2)
    assert facts["guidance_scale"] == 2.5, "as in the run's evaluation"
    base, tuned = facts["rows"]
    assert base["label"] == "base"
    assert (tuned["run"], tuned["scale"]) == (str(pictures.path), 1.0)
    assert base["base_revision"] == tuned["base_revision"]
    run_command(monkeypatch, sample.main, *words, "--scale", 0, "--output", tmp_path / "none.png")
    grid, unscaled = cells(tmp_path / "a.png"), cells(tmp_path / "none.png")
    assert len(grid) == len(grid[0]) == 2
    assert not np.array_equal(grid[0][0], grid[0][1]), "each picture has noise of its own"
    assert not np.array_equal(grid[0][0], grid[1][0])
    assert all(np.array_equal(a, b) for a, b in zip(*unscaled, strict=True)), "scale 0 is the base"
    assert all(np.array_equal(a, b) for a, b in zip(grid[0], unscaled[0], strict=True))


def test_several_runs_side_by_side(pictures, tmp_path):
    other = finished_run(RunConfig(PrefixTuning(length=2), Pokemon(), TRAIN), tmp_path)
    models = [
        (model.label.split("\n")[0], model.facts.get("run"))
        for model in load_models([pictures.path, other.path], 1, True)
    ]
    assert models == [("base", None), ("lora", str(pictures.path)), ("prefix", str(other.path))]
    with pytest.raises(AdapterError, match="cannot be rescaled"):
        list(load_models([other.path], 0.5, False))


@pytest.mark.parametrize("adapter", [Lora(rank=2, alpha=8.0), FullFinetuning(top_blocks=1), Subspace(dimension=9)])
def test_scale_multiplies_the_change_of_the_weights(adapter, language_run, tmp_path):
    run = finished_run(RunConfig(adapter, load_run(language_run.path).config.task, TRAIN), tmp_path)

    def weights(scale: float) -> dict[str, torch.Tensor]:
        model = next(iter(load_models([run.path], scale, False))).base.backbone.model
        return {name: p.detach() for name, p in model.named_parameters() if "adapter_" not in name}

    none, half, whole = weights(0), weights(0.5), weights(1)
    assert any(not torch.equal(none[name], whole[name]) for name in none)
    for name in none:
        torch.testing.assert_close(half[name], (none[name] + whole[name]) / 2, atol=1e-5, rtol=1e-4)


def test_texts(language_run, monkeypatch, capsys):
    run_command(monkeypatch, generate.main, language_run.path, MEANING, "--compare", "base", "--num-beams", 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == MEANING
    assert lines[1].startswith("  base: ")
    assert lines[2].startswith("  lora, rank 2, ")
    base, tuned = (line.split(": ", 1)[1] for line in lines[1:])
    assert base != tuned
    with pytest.raises(TaskError, match="expected a meaning such as 'name"):
        run_command(monkeypatch, generate.main, language_run.path, "a restaurant, please")


@pytest.mark.parametrize(
    ("command", "run", "message"),
    [
        (sample, "language_run", r"generates texts, not pictures: use python -m experiments\.generate"),
        (generate, "pictures", r"generates pictures, not texts: use python -m experiments\.sample"),
    ],
)
def test_the_wrong_kind_of_run_is_refused_before_it_is_loaded(command, run, message, request, monkeypatch):
    folder = request.getfixturevalue(run)
    for task in (Pokemon, EndToEnd):
        monkeypatch.setattr(task, "load_base", lambda *_: pytest.fail("a base was loaded"))
    with pytest.raises(UsageError, match=message):
        run_command(monkeypatch, command.main, folder.path, MEANING)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (sample, ["--num-images-per-prompt", "0"]),
        (sample, ["--num-inference-steps", "-1"]),
        (sample, ["--guidance-scale", "nan"]),
        (sample, ["--seed", "4294967296"]),
        (sample, ["--scale", "inf"]),
        (generate, ["--num-beams", "0"]),
        (generate, ["--length-penalty", "nan"]),
        (generate, ["--max-new-tokens", "10000000000000000000000000"]),
    ],
)
def test_numbers_out_of_bounds_are_refused_before_anything_is_loaded(command, words, monkeypatch, capsys):
    with pytest.raises(UsageError, match=f"{words[0]} must be .*, not {words[1]}"):
        run_command(monkeypatch, command.main, "no-such-run", PROMPT, *words)


def samples_of(prompts=(PROMPT,), **changed) -> sample.Samples:
    return sample.Samples({}, [], {"prompts": list(prompts), "seed": 0, "guidance_scale": 5.0, **changed})


def test_names_of_samples_differ_where_anything_differs():
    variants = [
        samples_of(),
        samples_of(["\uace0\uc591\uc774"]),  # a cat in Korean
        samples_of(["\uac15\uc544\uc9c0"]),  # a puppy in Korean
        samples_of(["\U0001f431"]),
        samples_of(["\U0001f436"]),
        samples_of([PROMPT, "another"]),
        samples_of(["x" * 300]),
        samples_of(["x" * 301]),
        samples_of(seed=1),
        samples_of(guidance_scale=6.0),
        samples_of(rows=[{"scale": 0.5}]),
    ]
    names = [samples.file_name for samples in variants]
    assert len(set(names)) == len(names)
    assert all(len(name.encode()) < 100 and "/" not in name for name in names)
    assert names[1].startswith("\uace0\uc591\uc774-seed0-")
    assert samples_of().file_name == names[0]


def test_a_prompt_may_be_longer_than_a_file_name(tmp_path):
    for prompt in ("x" * 300, "a long prompt " * 100):
        assert runs_and_prompts([str(tmp_path), prompt]) == ([tmp_path], [prompt])
    with pytest.raises(UsageError, match="is not a folder"):
        runs_and_prompts(["x" * 300])


def test_style_continues_a_text(tiny_base, tmp_path):  # noqa: F811
    run = load_run(finished_run(RunConfig(Lora(rank=2), Style(base=tiny_base, max_length=12), TRAIN), tmp_path).path)
    texts = run.base.generate(["The wind", "A day"], num_beams=1)
    assert len(texts) == 2
    assert all(texts)


def test_exported_files_load_in_their_tools(language_run, pictures, tmp_path, tiny_base):  # noqa: F811
    import peft
    from transformers import GPT2LMHeadModel

    run = load_run(language_run.path)
    tokens = torch.arange(12)[None]
    expected = run.base.backbone.model(input_ids=tokens).logits
    base = GPT2LMHeadModel.from_pretrained(tiny_base).eval()
    theirs = peft.PeftModel.from_pretrained(base, language_run.path)  # the run's folder itself
    torch.testing.assert_close(theirs(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
    export.export(run, "merged", tmp_path / "merged")
    merged = GPT2LMHeadModel.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(merged(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
    again = replace(run.config.task, base=str(tmp_path / "merged")).load_base(CPU)
    assert again.generate([MEANING], num_beams=1) == load_run(language_run.path).base.generate([MEANING], num_beams=1)
    with pytest.raises(AdapterError, match="choose diffusers or kohya or peft"):
        load_run(pictures.path).attachment.export("onnx")


def test_merged_pictures_are_a_pipeline(pictures, tmp_path):
    from diffusers import StableDiffusionPipeline

    run = load_run(pictures.path)
    inputs = run.base.backbone.example_input(torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = run.base.backbone.model(**inputs).sample
        export.export(run, "merged", tmp_path)
        theirs = StableDiffusionPipeline.from_pretrained(tmp_path)
        torch.testing.assert_close(theirs.unet(**inputs).sample, expected, atol=1e-4, rtol=1e-4)
    assert replace(run.config.task, base=str(tmp_path)).load_base(CPU).sampling == run.base.sampling


def test_an_interrupted_run_is_called_so(tmp_path):
    config = RunConfig(Lora(rank=2), Pokemon(), TRAIN).resolved()
    folder = RunFolder.of(tmp_path, config)
    folder.write_config(config)
    with pytest.raises(UsageError, match="has not finished: it is running, or it was interrupted"):
        load_run(folder.path)


def test_wrong_runs_and_prompts_are_refused(language_run, tmp_path):
    with pytest.raises(UsageError, match="not a finished run"):
        load_run(tmp_path)
    with pytest.raises(UsageError, match="runs first"):
        runs_and_prompts(["a prompt", str(tmp_path)])
    with pytest.raises(UsageError, match="there is no run 'runs/lora/12'"):
        runs_and_prompts([str(tmp_path), "runs/lora/12", "a prompt"])
    with pytest.raises(UsageError, match="no prompt"):
        runs_and_prompts([str(tmp_path)])


def test_a_changed_base_is_refused(language_run, tmp_path):
    import shutil

    copied = tmp_path / "run"
    shutil.copytree(language_run.path, copied)
    record = json.loads((copied / "result.json").read_text())
    write_json(copied / "result.json", record | {"facts": {"base_revision": "another"}})
    with pytest.raises(UsageError, match="trained on revision another"):
        load_run(copied)


def test_a_loaded_diffusion_run_is_a_pipeline(pictures):
    run = load_run(pictures.path)
    pipeline = run.pipeline()
    assert pipeline.unet is run.model

    def sampled():
        generator = torch.Generator().manual_seed(0)
        return np.asarray(pipeline(PROMPT, num_inference_steps=2, generator=generator).images[0])

    tuned = sampled()
    with run.attachment.disabled():
        assert not np.array_equal(sampled(), tuned), "the adapter is in the pipeline"
    assert np.array_equal(sampled(), tuned)
    with pytest.raises(TaskError, match="pipeline"):
        _ = run.tokenizer


def test_a_loaded_language_run_is_a_model_and_a_tokenizer(language_run):
    run = load_run(str(language_run.path))
    tokens = run.tokenizer(MEANING, return_tensors="pt").input_ids
    tuned = run.model(input_ids=tokens).logits
    with run.attachment.disabled():
        assert not torch.equal(run.model(input_ids=tokens).logits, tuned)
    with pytest.raises(TaskError, match="model and tokenizer"):
        run.pipeline()
