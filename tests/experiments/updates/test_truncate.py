"""Truncation against linear algebra, on real runs of a tiny model with fused matrices."""

import json
import math
import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import RunFolder
from experiments.session import base_evaluation, execute
from experiments.updates.changed_update import DecomposedRun, decompose_run, describe_record
from experiments.updates.truncation import evaluate_rank, truncate, truncated_weights, write_spectra
from experiments.updates.weight_delta import Decomposition, Matrix, copy_weights, weight_matrices
from reports.errors import ReportError
from reports.records import collect, read_run
from reports.spectra import spectra
from tests.contract.tiny import BUILDERS, built
from tests.experiments.tiny_regression import TinyRegression

SETTINGS = Train(steps=20, batch_size=1, device="cpu", learning_rate=0.01)


def trained(adapter, runs) -> RunFolder:
    config = RunConfig(adapter, TinyRegression(), SETTINGS).resolved()
    folder = RunFolder.of(runs, config)
    folder.write_config(config)
    execute(config, folder)
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def lora(runs) -> DecomposedRun:
    return decompose_run(trained(Lora(rank=3, targets=("linear",)), runs).path)


@pytest.fixture(scope="module")
def full(runs) -> DecomposedRun:
    return decompose_run(trained(FullFinetuning(), runs).path)


def error(source: DecomposedRun, rank: int) -> float:
    return evaluate_rank(source, rank).error


@pytest.mark.parametrize("name", ["lora", "full"])
def test_full_rank_reproduces_the_run(name, request):
    source = request.getfixturevalue(name)
    record = evaluate_rank(source, 64)
    trained = source.record["metrics"]["error"]
    assert record.error == pytest.approx(trained["value"], rel=1e-4)
    assert record.figure("error").base == trained["base"]
    assert record.data["facts"]["energy_kept"] == pytest.approx(1)


def test_a_lora_loses_nothing_at_its_own_rank(lora):
    assert error(lora, 3) == pytest.approx(error(lora, 64), rel=1e-4)
    assert error(lora, 1) > error(lora, 2) > error(lora, 3)
    record = evaluate_rank(lora, 3).data
    assert record["parameters"]["trainable"] == lora.record["parameters"]["trainable"]
    assert record["facts"]["kept_whole"] == {"tensors": 0, "share_of_squared_norm": 0}


def test_each_matrix_has_the_best_approximation(full):
    """Eckart and Young: the distance of the best approximation is the tail of the singular values."""
    weights = truncated_weights(full, 2)
    for part in full.matrices:
        cut = part.matrix.view(weights[part.matrix.parameter]) - part.base
        update = (part.left * part.values) @ part.right
        tail = np.linalg.svd((update - cut).numpy(), compute_uv=False)
        assert tail[0] == pytest.approx(float(part.values[2]), rel=1e-3, abs=1e-6)
        assert np.linalg.norm(tail) == pytest.approx(float(part.values[2:].norm()), rel=1e-3, abs=1e-6)


def test_vectors_keep_their_whole_update(full):
    record = evaluate_rank(full, 1).data
    named = built("gpt2").model.named_parameters()
    vectors = [name for name, p in named if p.ndim == 1 and name in full.base]
    assert record["facts"]["kept_whole"]["tensors"] == len(vectors) > 0
    assert 0 < record["facts"]["kept_whole"]["share_of_squared_norm"] < 1
    counted = sum(sum(part.matrix.view(full.base[part.matrix.parameter]).shape) for part in full.matrices)
    assert record["parameters"]["trainable"] == counted + sum(full.base[name].numel() for name in vectors)


def test_the_model_is_restored(full):
    evaluate_rank(full, 1, overwrite=True)
    now, then = copy_weights(full.prepared.backbone), copy_weights(built("gpt2"))
    assert all(torch.equal(now[name], then[name]) for name in then)


@pytest.mark.parametrize("kind", BUILDERS)
def test_the_matrices_cover_every_weight_once(kind):
    backbone = built(kind)
    parameters = dict(backbone.model.named_parameters())
    seen: dict[str, int] = {}
    for matrix in weight_matrices(backbone):
        seen[matrix.parameter] = seen.get(matrix.parameter, 0) + matrix.view(parameters[matrix.parameter]).numel()
    assert seen == {name: p.numel() for name, p in parameters.items() if p.ndim > 1}


def test_each_rank_is_a_record_beside_the_trained_runs(lora, runs):
    record = evaluate_rank(lora, 2)
    run = next(run for run in collect(runs).finished if run.folder.name == record.folder.name)
    assert (run.record.method, run.record.seed) == ("lora-truncated", SETTINGS.seed)
    assert run.record.size is not None
    assert (run.record.size.field, run.record.size.value) == ("rank", 2)
    assert run.record.config.adapter["trained_rank"] == 3
    assert run.record.content == lora.record["content"]  # the same base and data: no table warns of two versions
    assert list(run.items().columns) == ["error"]


def test_a_moved_run_keeps_its_truncations_inside(lora, tmp_path):
    """Nothing is written beside or above a run that was copied out of RUNS/TASK/METHOD."""
    moved = tmp_path / "a" / "b" / "best"
    shutil.copytree(lora.folder.path, moved)
    record = evaluate_rank(decompose_run(moved), 2)
    assert record.folder.parent == moved / "truncated" / "tiny-regression" / "lora-truncated"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["best"]
    assert [run.record.method for run in collect(moved / "truncated").finished] == ["lora-truncated"]


def test_the_file_that_a_run_started_from_may_be_gone(lora, tmp_path):
    start = tmp_path / "start.safetensors"
    shutil.copy(lora.folder.adapter_file, start)
    run = trained(replace(lora.config.adapter, init=str(start)), tmp_path / "runs")
    start.unlink()
    assert decompose_run(run.path).matrices


def test_nothing_is_evaluated_twice(lora, monkeypatch):
    before = evaluate_rank(lora, 2).data
    monkeypatch.setattr(type(lora.prepared), "evaluate", None)
    assert json.loads(json.dumps(evaluate_rank(lora, 2).data)) == json.loads(json.dumps(before))


def test_base_norms_by_hand():
    eye, base = torch.eye(3), torch.diag(torch.tensor([3.0, 4.0, 9.0]))
    part = Decomposition(Matrix("m", "m"), eye[:, :2], torch.tensor([2.0, 1.0]), eye[:2], base)
    assert part.base_norms().tolist() == [3, 5]


def test_reports_read_the_spectra(lora):
    write_spectra(lora)
    written = spectra(read_run(lora.folder.path))
    assert list(written) == [part.matrix.key for part in lora.matrices]
    for part in lora.matrices:
        s = written[part.matrix.key]
        assert s.rank == 3
        r: Any = slice(0, 3)
        inside = part.left[:, r].T @ part.base @ part.right[r].T
        assert s.amplification == (pytest.approx(float(part.values[r].norm() / inside.norm()), rel=1e-4), 3)


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(UsageError, match="not a finished run"):
        decompose_run(tmp_path)
    with pytest.raises(UsageError, match="'prefix' cannot be merged into the weights"):
        decompose_run(trained(PrefixTuning(), tmp_path).path)


def test_the_function_takes_a_folder_and_yields_a_record_per_rank(lora):
    records = list(truncate(lora.folder.path, ranks=(1, 2)))
    assert [record.data["size"]["value"] for record in records] == [1, 2]
    twice = truncate(lora.folder.path, ranks=(1, 1, 2))
    assert [record.data["size"]["value"] for record in twice] == [1, 2]
    assert [record.data["size"]["value"] for record in truncate(lora.folder.path)] == [1, 2]  # its rank is 3
    with pytest.raises(UsageError, match="--ranks must be at least 1, not 0"):
        list(truncate(lora.folder.path, ranks=(0,)))


def test_a_rank_above_the_runs_own_is_refused_before_anything_is_loaded(lora, monkeypatch):
    def fail(self, device):
        raise AssertionError("the task was prepared")

    monkeypatch.setattr(TinyRegression, "prepare", fail)
    with pytest.raises(UsageError, match="--ranks must be at most the run's own rank, 3, not 8"):
        list(truncate(lora.folder.path, ranks=(1, 8)))


def test_a_run_without_finite_figures_is_one_sentence(lora, tmp_path):
    """Releases before this one recorded such a run as finished."""
    copy = tmp_path / "run"
    shutil.copytree(lora.folder.path, copy)
    record = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(record | {"metrics": {}}))
    with pytest.raises(UsageError, match=r"no figure of the run .* is a finite number, .* choose a run") as error:
        next(truncate(copy, ranks=(1,)))
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(ReportError, match="finished without any finite figure"):
        read_run(copy)


def test_a_truncation_without_finite_figures_has_failed(lora, tmp_path, monkeypatch):
    moved = tmp_path / "run"
    shutil.copytree(lora.folder.path, moved)
    source = decompose_run(moved)
    measure = type(source.prepared).evaluate

    def evaluate(self, output=None):
        evaluation = measure(self, output)
        evaluation.figures["error"] = replace(evaluation.figures["error"], value=math.nan)
        return evaluation

    base_evaluation(source.prepared)  # measured before
    monkeypatch.setattr(type(source.prepared), "evaluate", evaluate)
    record = evaluate_rank(source, 2)
    assert record.status == "failed"
    assert "rank 2: failed: no figure of the truncated model is a finite number (error)" in describe_record(
        record, "rank 2"
    )
    assert [run.record.reason for run in collect(moved / "truncated").failed] == [record.reason]
