"""Intruder dimensions against matrices whose decomposition is known by hand, and on runs of a tiny model."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from adapters.lora import Lora
from experiments.truncate import describe_scaled
from experiments.updates.intruders import IntruderCriterion, intruding_part, scale_intruders
from experiments.updates.weight_delta import Decomposition, Matrix
from reports.__main__ import main
from reports.records import read_run
from reports.spectra import spectra
from tests.experiments.updates.test_extraction import trained

SIZE = 16
EVEN = torch.full((SIZE,), 1 / math.sqrt(SIZE))  # its |cosine| with every axis is 1/4


def decomposition(change: torch.Tensor) -> Decomposition:
    """The update `change` of W_0 = diag(16, 15, ..., 1), whose singular vectors are the axes."""
    base = torch.diag(torch.arange(SIZE, 0, -1.0))
    left, values, right = torch.linalg.svd(change)
    return Decomposition(Matrix("m", "m"), left, values, right, base)


def test_a_strong_direction_between_all_axes_is_an_intruder():
    part = decomposition(1000 * torch.outer(EVEN, EVEN))
    assert float(part.resemblance[0]) == pytest.approx(1 / 4, abs=1e-2)
    assert IntruderCriterion().positions(part) == [0]
    assert IntruderCriterion(threshold=0.2).positions(part) == []


def test_stronger_axes_are_no_intruders():
    part = decomposition(torch.diag(torch.arange(SIZE, 0, -1.0)) * 0.5)
    assert part.resemblance.tolist() == pytest.approx([1.0] * SIZE)
    assert IntruderCriterion().positions(part) == []


def test_resemblance_against_numpy():
    generator = torch.Generator().manual_seed(0)
    base, change = (torch.randn(12, 9, generator=generator) for _ in range(2))
    left, values, right = torch.linalg.svd(change, full_matrices=False)
    part = Decomposition(Matrix("m", "m"), left, values, right, base)
    u_base = np.linalg.svd(base.numpy())[0][:, :9]
    u_tuned = np.linalg.svd((base + change).numpy())[0][:, :9]
    assert part.resemblance.tolist() == pytest.approx(np.abs(u_tuned.T @ u_base).max(1).tolist(), abs=1e-4)


def test_removing_an_intruder_removes_its_singular_value():
    part = decomposition(1000 * torch.outer(EVEN, EVEN))
    before = np.linalg.svd(part.tuned().numpy(), compute_uv=False)
    after = np.linalg.svd((part.tuned() - intruding_part(part, [0])).numpy(), compute_uv=False)
    assert after[:-1] == pytest.approx(before[1:], abs=1e-3)
    assert after[-1] == pytest.approx(0, abs=1e-3)


def test_a_run_with_its_intruders_scaled(tmp_path, capsys):
    path = trained(Lora(rank=2, targets=("linear",), alpha=200.0), tmp_path)
    criterion = IntruderCriterion(threshold=0.7)
    records = {r.data["config"]["adapter"]["scale"]: r for r in scale_intruders(path, criterion, (1.0, 0.0))}
    of_run: Any = read_run(path).record.metrics["error"]
    assert records[1.0].error == pytest.approx(of_run.value, rel=1e-3)
    assert records[0.0].error != pytest.approx(of_run.value, rel=1e-3)
    facts = records[0.0].data["facts"]
    assert facts["intruder_dimensions"] == sum(facts["intruders"].values()) > 0
    assert records[0.0].data["method"] == "lora-intruders"
    assert describe_scaled(records[0.0]).startswith("intruders x 0: error ")
    stored = spectra(read_run(path))
    for key, count in facts["intruders"].items():
        resemblance: Any = stored[key].resemblance
        assert int((resemblance[:10] < 0.7).sum()) == count
    capsys.readouterr()
    assert list(scale_intruders(path, IntruderCriterion(threshold=1e-9), (0.0,))) == []
    assert "nothing to scale" in capsys.readouterr().err
    main(["spectra", str(path)])
    text = capsys.readouterr().out
    assert "intruders" in text.splitlines()[1]
    assert "Shuttleworth" in text
