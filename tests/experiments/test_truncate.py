"""Truncation against the linear algebra that it stands on, on real runs of a tiny model whose matrices are fused."""

import json
from typing import Any

import numpy as np
import pytest
import torch

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.measure.weight_delta import Decomposition, Matrix, matrices, weights_of
from experiments.records.folder import RunFolder
from experiments.session import execute
from experiments.truncate import Source, load, truncate, truncated_weights, write_spectra
from reports.records import collect, read_run
from reports.spectra import spectra
from tests.contract.tiny import BUILDERS, built
from tests.experiments.tiny_regression import TinyRegression

SETTINGS = Train(steps=20, batch_size=1, device="cpu", learning_rate=0.01)


def trained(adapter, runs) -> RunFolder:
    config = RunConfig(adapter, TinyRegression(), SETTINGS).resolved()
    folder = RunFolder.create(runs, config)
    execute(config, folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def lora(runs) -> Source:
    return load(trained(Lora(rank=3, targets=("linear",)), runs).path)


@pytest.fixture(scope="module")
def full(runs) -> Source:
    return load(trained(FullFinetuning(), runs).path)


def error(source: Source, rank: int) -> float:
    _, record = truncate(source, rank)
    return record["metrics"]["error"]["value"]


@pytest.mark.parametrize("name", ["lora", "full"])
def test_at_the_full_rank_it_is_the_run_itself(name, request):
    source = request.getfixturevalue(name)
    _, record = truncate(source, 64)
    assert record["metrics"]["error"]["value"] == pytest.approx(source.record["metrics"]["error"]["value"], rel=1e-4)
    assert record["metrics"]["error"]["base"] == source.record["metrics"]["error"]["base"]
    assert record["facts"]["energy_kept"] == pytest.approx(1)


def test_a_loras_own_rank_is_all_that_it_has(lora):
    assert error(lora, 3) == pytest.approx(error(lora, 64), rel=1e-4)
    assert error(lora, 1) > error(lora, 2) > error(lora, 3)
    _, record = truncate(lora, 3)
    assert record["parameters"]["trainable"] == lora.record["parameters"]["trainable"]
    assert record["facts"]["kept_whole"] == {"tensors": 0, "share_of_squared_norm": 0}


def test_each_matrix_is_cut_as_well_as_can_be(full):
    """Eckart and Young: no matrix of the rank is nearer than the tail of the singular values; this one is as near."""
    weights = truncated_weights(full, 2)
    for part in full.parts:
        cut = part.matrix.of(weights[part.matrix.parameter]) - part.base
        update = (part.left * part.values) @ part.right
        tail = np.linalg.svd((update - cut).numpy(), compute_uv=False)
        assert tail[0] == pytest.approx(float(part.values[2]), rel=1e-3, abs=1e-6)
        assert np.linalg.norm(tail) == pytest.approx(float(part.values[2:].norm()), rel=1e-3, abs=1e-6)


def test_what_is_no_matrix_is_kept_whole(full):
    _, record = truncate(full, 1)
    named = built("gpt2").model.named_parameters()
    vectors = [name for name, p in named if p.ndim == 1 and name in full.base]
    assert record["facts"]["kept_whole"]["tensors"] == len(vectors) > 0
    assert 0 < record["facts"]["kept_whole"]["share_of_squared_norm"] < 1
    counted = sum(sum(part.matrix.of(full.base[part.matrix.parameter]).shape) for part in full.parts)
    assert record["parameters"]["trainable"] == counted + sum(full.base[name].numel() for name in vectors)


def test_the_model_is_given_back(full):
    truncate(full, 1, again=True)
    now, then = weights_of(full.prepared.backbone), weights_of(built("gpt2"))
    assert all(torch.equal(now[name], then[name]) for name in then)


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_matrices_are_every_weight_once(kind):
    backbone = built(kind)
    parameters = dict(backbone.model.named_parameters())
    seen: dict[str, int] = {}
    for matrix in matrices(backbone):
        seen[matrix.parameter] = seen.get(matrix.parameter, 0) + matrix.of(parameters[matrix.parameter]).numel()
    assert seen == {name: p.numel() for name, p in parameters.items() if p.ndim > 1}


def test_it_is_a_record_of_its_own_beside_the_trained_ones(lora, runs):
    folder, _ = truncate(lora, 2)
    run = next(run for run in collect(runs).finished if run.folder.name == folder.path.name)
    assert (run.record.method, run.record.seed) == ("lora-truncated", SETTINGS.seed)
    assert run.record.size is not None
    assert (run.record.size.field, run.record.size.value) == ("rank", 2)
    assert run.record.config.adapter["trained_rank"] == 3
    assert list(run.items().columns) == ["error"]


def test_nothing_is_evaluated_twice(lora, monkeypatch):
    _, before = truncate(lora, 2)
    monkeypatch.setattr(type(lora.prepared), "evaluate", None)
    assert json.loads(json.dumps(truncate(lora, 2)[1])) == json.loads(json.dumps(before, default=str))


def test_the_bases_share_of_the_directions_by_hand():
    eye, base = torch.eye(3), torch.diag(torch.tensor([3.0, 4.0, 9.0]))
    part = Decomposition(Matrix("m", "m"), eye[:, :2], torch.tensor([2.0, 1.0]), eye[:2], base)
    assert part.base_norms().tolist() == [3, 5]


def test_reports_read_the_spectra(lora):
    write_spectra(lora)
    found = spectra(read_run(lora.folder.path))
    assert list(found) == [part.matrix.key for part in lora.parts]
    for part in lora.parts:
        s = found[part.matrix.key]
        assert s.rank == 3
        r: Any = slice(0, 3)
        inside = part.left[:, r].T @ part.base @ part.right[r].T
        assert s.amplification == (pytest.approx(float(part.values[r].norm() / inside.norm()), rel=1e-4), 3)


def test_what_cannot_be_cut_is_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="no finished run"):
        load(tmp_path)
    with pytest.raises(UsageError, match="'prefix' is no change of the model's weights"):
        load(trained(PrefixTuning(), tmp_path).path)
