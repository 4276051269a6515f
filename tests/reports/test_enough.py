"""The sentence that answers which rank is enough, on studies made up so that the answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from reports.__main__ import main
from reports.records import collect
from reports.tables import build
from reports.text.enough import rank_sentences
from tests.reports.synthetic import figure, record, write

# the untuned base has 1000, full fine-tuning 200 on average: a gain of 800, of which 5 % are 40
MEANS = {1: 500.0, 2: 300.0, 4: 238.0, 8: 201.0, 16: 200.0}


def study(runs, seeds: int, noise: float) -> None:
    """Runs whose means over seeds are exactly those in MEANS, 200 for full fine-tuning."""
    random = np.random.default_rng(0)
    for rank, mean in [*MEANS.items(), (None, 200.0)]:
        errors = noise * random.standard_normal(seeds)
        for seed, error in enumerate(errors - errors.mean()):
            kid = figure(mean + error, base=1000.0)
            write(runs, record("full" if rank is None else "lora", rank, seed, metrics={"kid": kid}))


def test_the_sentence_names_the_ranks(tmp_path):
    study(tmp_path, seeds=6, noise=8.0)
    (sentence,) = rank_sentences(build(collect(tmp_path), "drawings"))
    assert sentence.startswith(
        "lora: smallest rank not told apart from full in kid, or better: 8; smallest rank whose mean lies within 5 % "
        "of the gain of full: 4 (shown by a test: 8)."
    )
    missed = float(sentence.partition(" below ")[2].split()[0])
    assert 5 < missed < 60  # a few standard errors of a difference, 8 * sqrt(2 / 6) = 4.6


def test_one_seed_cannot_tell(tmp_path):
    study(tmp_path, seeds=1, noise=0.0)
    assert rank_sentences(build(collect(tmp_path), "drawings")) == [
        "lora: smallest rank whose mean lies within 5 % of the gain of full: 4. One seed cannot tell whether kid "
        "differs from that of full."
    ]


def test_no_rank_is_enough(tmp_path):
    for seed in range(5):
        for method, rank, kid in (("lora", 1, 600), ("lora", 8, 500), ("full", None, 200)):
            measured = figure(kid + (-1) ** seed * seed, base=1000.0)
            write(tmp_path, record(method, rank, seed, metrics={"kid": measured}, fingerprint=f"{method}{rank}{seed}"))
    (sentence,) = rank_sentences(build(collect(tmp_path), "drawings"))
    assert "or better: none up to 8; smallest rank" in sentence
    assert "of the gain of full: none up to 8 (shown by a test: none up to 8)" in sentence


def test_without_a_run_that_trains_everything_there_is_no_answer(tmp_path):
    for rank in (1, 8):
        write(tmp_path, record("lora", rank, 0))
    assert rank_sentences(build(collect(tmp_path), "drawings")) == []


@pytest.mark.parametrize("form", ["terminal", "md"])
def test_the_sentence_is_below_the_table(tmp_path, capsys, form):
    study(tmp_path, seeds=3, noise=3.0)
    main(["table", "drawings", "--runs", str(tmp_path), "--by", "rank", "--format", form])
    out = " ".join(capsys.readouterr().out.split())
    assert "lora: smallest rank not told apart from full in kid" in out
