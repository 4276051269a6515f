"""Spectra against matrices whose decomposition is known by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from reports.__main__ import main
from reports.errors import ReportError
from reports.records import read_run
from reports.spectra import Spectrum, similarity, spectra
from tests.reports.synthetic import record, write


def spectrum(*values: float, **more) -> Spectrum:
    return Spectrum((9, 9), np.array(values), np.eye(len(values), 9), **more)


def test_effective_rank_by_hand():
    assert spectrum(2.0, 2.0, 2.0, 2.0).participation == pytest.approx(4)
    assert spectrum(5.0, 0.0).participation == pytest.approx(1)
    assert spectrum(2.0, 1.0).participation == pytest.approx(25 / 17)  # energies 4 and 1
    assert (spectrum(2.0, 2.0, 2.0, 2.0).energy_rank, spectrum(5.0, 0.1).energy_rank) == (4, 1)
    assert spectrum(3.0, 1.0).energy_rank == 1, "9 of 10 is 90 %"
    assert spectrum(1.0, 1e-9).rank == 1


def test_amplification_by_hand():
    s = spectrum(3.0, 4.0, base_norms=np.array([1.0, 2.0]))
    assert s.amplification == (pytest.approx(5 / 2), 2)
    assert spectrum(3.0, 4.0).amplification is None


def test_similarity_by_hand():
    x, y, z = np.eye(3)
    phi = similarity(np.array([x, y]), np.array([y, x, z]))
    assert phi.tolist() == [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    rotated = np.array([(x + y) / np.sqrt(2)])
    assert similarity(rotated, np.array([x]))[0, 0] == pytest.approx(0.5)
    assert similarity(rotated, np.array([z]))[0, 0] == 0


def test_similarity_of_random_spaces_is_rank_over_width():
    rng = np.random.default_rng(0)
    bases = [np.linalg.qr(rng.normal(size=(64, 8)))[0].T for _ in range(60)]
    mean = np.mean([similarity(a, b)[7, 7] for a, b in zip(bases[::2], bases[1::2], strict=True)])
    assert mean == pytest.approx(8 / 64, rel=0.15)


def with_factors(folder, a: np.ndarray, b: np.ndarray) -> None:
    factors = {"layer:query.lora_A_query": a.astype(np.float32), "layer:query.lora_B_query": b.astype(np.float32)}
    save_file(factors, folder / "adapter.safetensors")


def test_factors_agree_with_the_product(tmp_path):
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(3, 20)), rng.normal(size=(11, 3))
    folder = write(tmp_path, record())
    with_factors(folder, a, b)
    (spectrum_read,) = spectra(read_run(folder)).values()
    assert spectrum_read.values == pytest.approx(np.linalg.svd(b @ a, compute_uv=False)[:3], rel=1e-5)
    assert spectrum_read.shape == (11, 20)
    assert spectrum_read.right == pytest.approx(np.linalg.svd(a, full_matrices=False)[2], abs=1e-5)


def test_stored_spectra_give_norms_and_the_factor_gives_directions(tmp_path, capsys):
    folder = write(tmp_path, record())
    with_factors(folder, np.array([[0.0, 1.0, 0.0, 0.0]]), np.array([[1.0], [0.0], [0.0]]))
    stored = {"values": [6.0], "right": [[0.0, 0.0, 1.0, 0.0]], "base_norms": [0.5]}
    tensors = {f"layer:query/{name}": np.array(value, np.float32) for name, value in stored.items()}
    save_file(tensors, folder / "spectra.safetensors", metadata={"shapes": json.dumps({"layer:query": [3, 4]})})
    (spectrum_read,) = spectra(read_run(folder)).values()
    assert np.abs(spectrum_read.right).tolist() == [[0, 1, 0, 0]]
    main(["spectra", str(folder)])
    text = " ".join(capsys.readouterr().out.split())
    assert "layer:query 3 x 4 1 1.00 1 6 12 (r=1)" in text
    assert "Median of 1 matrices" in text


def test_two_runs_side_by_side(tmp_path, capsys):
    first, second = write(tmp_path, record("lora", 2)), write(tmp_path, record("lora", 3))
    with_factors(first, np.diag([2.0, 1.0, 0, 0])[:2], np.eye(5, 2))
    with_factors(second, np.diag([1.0, 2.0, 3.0, 0])[:3], np.eye(5, 3))  # its first direction is the third axis
    main(["spectra", str(first), str(second), "--output", str(tmp_path / "out")])
    text = " ".join(capsys.readouterr().out.split())
    assert "A: lora rank 2 seed 0" in text
    assert "layer:query 4 0.000 1.000 0.500 (2) 0.500" in text
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["similarity.png", "similarity.svg"]


@pytest.mark.parametrize("problem", ["nothing", "broken", "three", "other matrices"])
def test_missing_spectra_are_reported_in_one_sentence(tmp_path, problem):
    folders = [write(tmp_path, record("lora", size)) for size in (1, 2)]
    for folder in folders if problem != "nothing" else []:
        with_factors(folder, np.ones((1, 3)), np.ones((4, 1)))
    if problem == "broken":
        (folders[0] / "adapter.safetensors").write_bytes(b"no")
    elif problem == "three":
        folders.append(folders[0])
    elif problem == "other matrices":
        save_file({"x.lora_A": np.ones((1, 3)), "x.lora_B": np.ones((4, 1))}, folders[1] / "adapter.safetensors")
    with pytest.raises(ReportError) as error:
        main(["spectra", *map(str, folders)])
    assert len(str(error.value).splitlines()) == 1
