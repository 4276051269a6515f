"""Extracted LoRAs against linear algebra, and in the loaders of diffusers and peft, on runs of tiny models."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch

from adapters.base import attach
from adapters.full_finetuning import FullFinetuning
from adapters.interchange.kohya import KOHYA_FILE
from adapters.lora import Lora
from adapters.lycoris import Lycoris
from adapters.peft_method import PeftMethod
from adapters.prefix_tuning import PrefixTuning
from experiments.cli.parser import parse_options
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.extract import ExtractOptions
from experiments.records.folder import RunFolder
from experiments.records.run_record import RunRecord
from experiments.session import execute
from experiments.updates.changed_update import DecomposedRun, decompose_run
from experiments.updates.extraction import RankChoice, changed_update, extract, extracted_factors
from experiments.updates.truncation import evaluate_rank
from experiments.updates.weight_delta import set_weights
from reports.records import collect
from tests.adapters.interchange.round_trip import assert_same_output, fresh_backbone
from tests.adapters.interchange.test_lora import load_into_unet
from tests.contract.tiny import output
from tests.experiments.tiny_regression import TinyRegression


def trained(adapter, runs, kind: str = "gpt2") -> Path:
    settings = Train(steps=20, batch_size=1, device="cpu", learning_rate=0.01)
    config = RunConfig(adapter, TinyRegression(kind=kind), settings).resolved()
    folder = RunFolder.of(runs, config)
    folder.write_config(config)
    assert execute(config, folder)["status"] == "finished"
    return folder.path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def unet_run(runs) -> Path:
    return trained(FullFinetuning(), runs, "unet")


@pytest.fixture(scope="module")
def full(runs) -> DecomposedRun:
    return decompose_run(trained(FullFinetuning(), runs))


def extracted_model(path: Path, choice: RankChoice) -> Any:
    """The base with the extracted update in its weights."""
    run = decompose_run(path)
    set_weights(changed_update(run, choice, extracted_factors(run, choice)).weights, run.prepared.backbone)
    return run.prepared.backbone


CHOICES = {
    "rank": RankChoice(rank=3),
    "energy": RankChoice(energy=0.8),
    "ranks": RankChoice(rank=2, ranks={"query": 4, "convolution": 1}),
}


@pytest.mark.parametrize("name", CHOICES)
def test_diffusers_kohya_and_peft_files_are_the_evaluated_model(name, unet_run):
    record = extract(unet_run, CHOICES[name])
    expected, files = extracted_model(unet_run, CHOICES[name]), record.folder / "export"
    assert not torch.allclose(output(expected), output(fresh_backbone("unet")), atol=1e-3)
    assert_same_output(load_into_unet(files / "diffusers"), expected)
    assert_same_output(load_into_unet(files / "kohya" / KOHYA_FILE), expected)
    base = fresh_backbone("unet")
    theirs: Any = peft.PeftModel.from_pretrained(base.model, files / "peft")
    torch.testing.assert_close(output(base, theirs), output(expected), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_peft_loads_a_language_models_folder(kind, runs):
    path, choice = trained(FullFinetuning(), runs, kind), RankChoice(energy=0.9)
    record = extract(path, choice)
    assert [child.name for child in (record.folder / "export").iterdir()] == ["peft"]
    base = fresh_backbone(kind)
    theirs: Any = peft.PeftModel.from_pretrained(base.model, record.folder / "export" / "peft")
    torch.testing.assert_close(output(base, theirs), output(extracted_model(path, choice)), atol=1e-5, rtol=1e-4)


def test_ranks_of_an_energy_are_the_smallest(full):
    choice = RankChoice(energy=0.7)
    factors = extracted_factors(full, choice)
    assert len({layer.rank for layer in factors.values()}) > 1
    for part in full.matrices:
        if part.matrix.key in factors:
            change = (part.left * part.values) @ part.right
            energies = np.cumsum(np.linalg.svd(change.double().numpy(), compute_uv=False) ** 2)
            rank = factors[part.matrix.key].rank
            assert energies[rank - 1] >= 0.7 * energies[-1] * (1 - 1e-5)
            assert rank == 1 or energies[rank - 2] < 0.7 * energies[-1] * (1 + 1e-5)


def test_what_a_lora_cannot_express_is_left_out_and_counted(full):
    record = extract(full.folder.path, RankChoice(rank=2)).data
    left, whole = record["facts"]["left_out"], sum(float(p.values.square().sum()) for p in full.matrices)
    inside = sum(float(p.values.square().sum()) for p in full.matrices if p.matrix.key in record["facts"]["ranks"])
    vectors = sum(float(change.square().sum()) for change in full.vectors.values())
    assert left["tensors"] == len(full.matrices) - len(record["facts"]["ranks"]) + len(full.vectors)
    assert left["share_of_squared_norm"] == pytest.approx((whole + vectors - inside) / (whole + vectors))
    assert set(record["facts"]["ranks"].values()) == {2}
    factors = extracted_factors(full, RankChoice(rank=2))
    assert record["parameters"]["trainable"] == sum(f.down.numel() + f.up.numel() for f in factors.values())


CHANGES_OF_WEIGHTS = {
    "lora": Lora(rank=3, targets=("linear",)),
    "lycoris": Lycoris("loha", targets=("linear",)),
    "dora": PeftMethod("lora", {"r": 2, "use_dora": True}),
    "pissa": PeftMethod("lora", {"r": 2, "init_lora_weights": "pissa"}),
    "vera": PeftMethod("vera", {"r": 4}),
    "ia3": PeftMethod("ia3"),
    "fourierft": PeftMethod("fourierft", {"n_frequency": 20}),
}


@pytest.mark.parametrize("name", CHANGES_OF_WEIGHTS)
def test_the_decomposed_update_is_the_runs(name, runs):
    """Nothing is lost at full rank, whichever library trained it; ia3 scales biases too, which no LoRA expresses."""
    path = trained(CHANGES_OF_WEIGHTS[name], runs)
    of_run = RunRecord(path, json.loads((path / "result.json").read_text()))
    assert of_run.error != pytest.approx(of_run.figure("error").base, rel=1e-3)
    run = decompose_run(path)
    assert evaluate_rank(run, 64).error == pytest.approx(of_run.error, rel=1e-3)
    if not run.vectors:
        assert extract(path, RankChoice(energy=1.0)).error == pytest.approx(of_run.error, rel=1e-3)


def test_our_lora_starts_from_the_extracted_one(runs):
    path = trained(Lora(rank=3), runs)
    record = extract(path, RankChoice(rank=3))
    base = fresh_backbone("gpt2")
    attach(Lora(rank=3, init=str(record.folder / "export" / "peft")), base)
    assert_same_output(base, extracted_model(path, RankChoice(rank=3)))


def test_the_record_is_a_run_of_its_own_method(full, runs):
    record = extract(full.folder.path, RankChoice(rank=2))
    run = next(run for run in collect(runs).finished if run.folder.name == record.folder.name)
    assert run.record.method == "full-extracted"
    assert run.record.size is not None
    assert (run.record.size.field, run.record.size.value) == ("rank", 2)
    by_energy = extract(full.folder.path, RankChoice(energy=0.5))
    run = next(run for run in collect(runs).finished if run.folder.name == by_energy.folder.name)
    assert (run.record.size, run.record.config.adapter["energy"]) == (None, 0.5)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (RankChoice(), "either --rank 8 or --energy 0.9"),
        (RankChoice(rank=1, energy=0.5), "either --rank 8 or --energy 0.9"),
        (RankChoice(energy=1.5), "--energy must be above 0 and at most 1"),
        (RankChoice(rank=1, ranks={"qeury": 2}), "no layer with the role 'qeury'"),
    ],
)
def test_mistakes_are_one_sentence(choice, message, full):
    with pytest.raises(UsageError, match=message):
        extract(full.folder.path, choice)


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (PrefixTuning(), "'prefix' cannot be merged into the weights"),
        (PeftMethod("ln_tuning"), "ln_tuning"),
    ],
)
def test_what_is_no_change_of_matrices_is_refused(adapter, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        extract(trained(adapter, tmp_path), RankChoice(rank=2))


def test_the_command_line(full):
    words = [str(full.folder.path), "--energy", "0.9", "--ranks", "query", "8", "value", "2"]
    options = parse_options(ExtractOptions, words, "python -m experiments.extract")
    assert (options.run, options.rank, options.energy) == (full.folder.path, None, 0.9)
    assert options.ranks == {"query": 8, "value": 2}
    assert replace(options, ranks={}).settings == {"energy": 0.9}
