"""The precision of whole runs: resolved settings, what is loaded and shared, evaluation, records."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from adapters.base import adapter_registry
from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.precision import computing_in, precision_key, stored_in, weight_dtypes
from experiments.records.folder import RunFolder
from experiments.run import _print_reduced_defaults
from experiments.session import base_evaluation, run
from experiments.sweeping.runner import sweep
from experiments.training.preflight import check_before_loading
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.style import Style
from tests.tasks.diffusion.tiny_base import CARD, write_base
from tests.tasks.language.conftest import text_file, tiny_base  # noqa: F401  (fixtures)

CPU = torch.device("cpu")
SMALL: Any = {"test_items": 2, "drift_items": 2}
METHODS = ["lora", "full", "bottleneck", "prefix", "subspace", "peft"]
STYLE = Style(test_items=2, drift_items=2, max_length=32)
BF16 = Train(device="cpu", mixed_precision="bf16", steps=2, batch_size=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> str:
    folder = write_base(tmp_path_factory.mktemp("base") / "tiny")
    (folder / "card.json").write_text(json.dumps(CARD))
    return str(folder)


@pytest.fixture
def texts(tiny_base, text_file) -> Style:  # noqa: F811
    """Of a small base: on a CPU without instructions for bf16, a run of gpt-mini takes a minute and a half."""
    return replace(STYLE, base=tiny_base, data=text_file)


def resolved(task, method="lora", **train):
    return RunConfig(adapter_registry()[method](), task, Train(**{"device": "cpu", **train})).resolved()


@pytest.mark.parametrize("method", METHODS)
def test_the_base_is_loaded_in_the_dtype_of_the_computation(method, base):
    for task in (STYLE, Pokemon(base=base, train_items=4, validation_items=2, **SMALL)):
        stored = "fp32" if method == "full" else "bf16"
        assert stored_in(resolved(task, method).task) == "fp32"
        config = resolved(task, method, mixed_precision="bf16")
        assert stored_in(config.task) == stored
        assert config.resolved() == config
        loaded = config.task.load_base(CPU)
        assert weight_dtypes(loaded.backbone.model) == ["float32" if stored == "fp32" else "bfloat16"]


def test_the_vae_stays_in_fp32_and_text_encoders_are_halved(base):
    loaded = replace(Pokemon(base=base), base_precision="bf16").load_base(CPU).base
    dtypes = {part: weight_dtypes(getattr(loaded, part)) for part in loaded.models}
    assert dtypes == {"unet": ["bfloat16"], "vae": ["float32"], "text_encoder": ["bfloat16"]}
    loaded.release("vae", "text_encoder")
    assert {part: weight_dtypes(getattr(loaded, part)) for part in loaded.models} == dtypes


def test_defaults_on_cuda(monkeypatch, base):
    for task in (STYLE, Pokemon(base=base)):
        assert resolved(task, device="cuda").train.mixed_precision == "bf16"
        assert stored_in(resolved(task, device="cuda").task) == "bf16"
        assert stored_in(resolved(task, "full", device="cuda").task) == "fp32"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert resolved(STYLE, device="auto").train.mixed_precision == "fp16"


@pytest.mark.parametrize(
    ("method", "precision", "train", "says"),
    [
        ("full", "bf16", {"mixed_precision": "bf16"}, "must be fp32: leave it out"),
        ("full", "nf4", {}, "must be fp32: leave it out"),
        ("lora", "bf16", {}, "add --train.mixed-precision bf16"),
        ("lora", "fp16", {"mixed_precision": "bf16"}, "add --train.mixed-precision fp16"),
    ],
)
def test_precisions_that_cannot_work(method, precision, train, says):
    with pytest.raises(UsageError, match=says):
        resolved(replace(STYLE, base_precision=precision), method, **train)


def test_quantised_bases_need_bitsandbytes_and_cuda(monkeypatch):
    config = resolved(replace(STYLE, base_precision="nf4"))
    monkeypatch.setattr("tasks.pretrained.precision.importlib.util.find_spec", lambda name: None)
    with pytest.raises(TaskError, match=r"nf4 needs bitsandbytes, which is not installed: pip install"):
        check_before_loading(config)
    monkeypatch.setattr("tasks.pretrained.precision.importlib.util.find_spec", lambda name: object())
    with pytest.raises(TaskError, match="needs a CUDA GPU: choose bf16"):
        check_before_loading(config)


@pytest.mark.parametrize("task", [pytest.param("pictures", marks=pytest.mark.slow), "texts"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_in_bf16(method, task, base, texts, tmp_path):
    """Trained, evaluated and saved; the figures are those of fp32 within the dtype's rounding."""
    pictures = Pokemon(base=base, train_items=4, validation_items=2, **SMALL)
    task = {"pictures": pictures, "texts": texts}[task]
    adapter = adapter_registry()[method]()
    half, whole = (
        run(adapter, task, replace(BF16, mixed_precision=precision), runs=tmp_path) for precision in ("bf16", "no")
    )
    assert (half.status, whole.status) == ("finished", "finished")
    stored = "fp32" if method == "full" else "bf16"
    assert half.data["precision"] == {"compute": "bf16", "base": stored, "trained": "fp32"}
    assert whole.data["precision"] == {"compute": "fp32", "base": "fp32", "trained": "fp32"}
    assert half.data["fingerprint"] != whole.data["fingerprint"]
    assert half.figure("validation_loss").value == pytest.approx(whole.figure("validation_loss").value, rel=0.02)
    assert half.figure("validation_loss").value != whole.figure("validation_loss").value
    lines = [[json.loads(line)["loss"] for line in (each.folder / "steps.jsonl").open()] for each in (half, whole)]
    assert lines[0] == pytest.approx(lines[1], rel=0.02)
    half.load()  # onto the base in fp32


def test_the_bases_figures_are_cached_by_precision(texts):
    prepared = replace(texts, base_precision="bf16").prepare(CPU)
    assert precision_key(prepared) == {"compute": "bf16", "weights": ["bfloat16"]}
    whole = texts.prepare(CPU)
    assert precision_key(whole) == {}
    figures = []
    with computing_in(whole, "bf16"):
        assert precision_key(whole) == {"compute": "bf16", "weights": ["float32"]}
        figures.append(base_evaluation(whole).figures["validation_loss"].value)
    figures += [base_evaluation(each).figures["validation_loss"].value for each in (prepared, whole)]
    assert len(set(figures)) == 3
    assert figures == pytest.approx([figures[-1]] * 3, rel=0.01)


def test_a_sweep_in_bf16_gives_each_method_its_base(texts, tmp_path):
    """A prepared task is shared between runs: full fine-tuning's base is in fp32, LoRA's in bf16."""
    adapters = [Lora(), FullFinetuning(), Lora(rank=2)]
    together = sweep(adapters, texts, train=BF16, runs=tmp_path / "together")
    assert [record.data["precision"]["base"] for record in together] == ["bf16", "fp32", "bf16"]
    for adapter, record in zip(adapters, together, strict=True):
        alone = run(adapter, texts, BF16, runs=tmp_path / "alone")
        assert alone.figure("validation_loss").value == record.figure("validation_loss").value


def test_class_pictures_are_cached_by_precision(base):
    """DreamBooth's prior pictures are the base's own."""
    task = DreamBooth(base=base, train_items=2, held_out=2, num_class_images=2, num_inference_steps=2, **SMALL)
    half, whole = (replace(task, base_precision=p, resolution=16).prepare(CPU) for p in ("bf16", None))
    assert half.class_pictures().pixels.dtype == torch.uint8
    assert not torch.equal(half.class_pictures().pixels, whole.class_pictures().pixels)


def test_truncations_of_a_run_in_bf16(texts, tmp_path):
    from experiments.updates.truncation import truncate

    record = run(Lora(rank=4), texts, replace(BF16, steps=6, learning_rate=1e-2), runs=tmp_path)
    whole = next(iter(truncate(record.folder, [4])))
    assert whole.figure("validation_loss").value == pytest.approx(record.figure("validation_loss").value, rel=5e-3)


def test_storage_that_follows_from_the_method_makes_no_other_conditions():
    """LoRA with frozen weights in bf16 and full fine-tuning in fp32 are compared, unless the user chose a storage."""
    from experiments.papers.recorded_runs import RecordedRun

    configs = [resolved(STYLE, method, mixed_precision="bf16") for method in ("lora", "full")]
    chosen = resolved(replace(STYLE, base_precision="fp32"), mixed_precision="bf16")
    lora, full, other = (RecordedRun.of({"config": config.as_record()}) for config in (*configs, chosen))
    assert lora.key("conditions") == full.key("conditions") != other.key("conditions")
    assert "task.base_precision" not in lora.departures
    assert other.departures["task.base_precision"] == "fp32"


@pytest.mark.parametrize(("method", "train"), [("lora", {}), ("full", {"mixed_precision": "bf16"})])
def test_naming_the_default_storage_is_the_same_run(method, train, tmp_path):
    left_out, named = (
        resolved(replace(STYLE, base_precision=precision), method, **train) for precision in (None, "fp32")
    )
    assert named == left_out
    assert RunFolder.of(tmp_path, named).path == RunFolder.of(tmp_path, left_out).path


def test_only_what_a_cpu_reduces_is_printed_as_its_default(capsys):
    requested = RunConfig(Lora(), STYLE, BF16)
    assert stored_in(requested.resolved().task) == "bf16"
    _print_reduced_defaults(requested, requested.resolved())
    assert capsys.readouterr().err == ""
    on_cuda = RunConfig(Lora(), Pokemon(base="sd-2-1"), replace(BF16, device="cuda"))
    _print_reduced_defaults(on_cuda, on_cuda.resolved())
    assert capsys.readouterr().err == ""
    pictures = replace(on_cuda, train=BF16)
    _print_reduced_defaults(pictures, pictures.resolved())
    reduced = capsys.readouterr().err
    assert reduced.startswith("defaults on a CPU: --task.")
    assert "base-precision" not in reduced
