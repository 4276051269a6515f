"""Random facts: their entropy, what counts as recalled, and the parameters that the bits are divided by."""

import math

import numpy as np
import pytest
import torch

from adapters import Bottleneck, FullFinetuning, Lora, PrefixTuning, Subspace
from adapters.base import attach
from experiments import run
from tasks.errors import TaskError
from tasks.fixed_part import fixed_part
from tasks.language.data.random_facts import RandomFacts
from tasks.language.facts import Facts
from tasks.language.metrics.recall import bits_recalled
from tests.tasks.full_training import train_fully

CPU = torch.device("cpu")
FACTS = RandomFacts(pairs=200, key_tokens=2, value_tokens=5, symbols=16, seed=0)


@pytest.fixture(scope="module")
def task(tiny_base):
    return Facts(base=tiny_base, pairs=40, value_tokens=3, symbols=8, drift_items=2)


@pytest.fixture
def prepared(task):
    return task.prepare(CPU)


def test_pairs_have_the_numbers_that_were_asked_for():
    pairs = FACTS.draw(range(100, 400))
    keys, values = [tuple(key) for key, _ in pairs], [value for _, value in pairs]
    assert len(set(keys)) == len(pairs) == 200
    assert {len(key) for key in keys} == {2}
    assert {len(value) for value in values} == {5}
    used = {token for value in values for token in value}
    assert len(used) == 16
    assert used | {token for key in keys for token in key} <= set(range(100, 400))
    assert FACTS.bits == 5 * math.log2(16) == 20


def test_values_are_uniform_and_independent_of_the_keys():
    """The empirical entropy of tokens, and of pairs of neighbours, is that of a uniform draw, up to the sample's."""
    facts = RandomFacts(20_000, 3, 2, 8, 1)
    values = np.array([value for _, value in facts.draw(range(3000))])
    codes = np.unique(values, return_inverse=True)[1].reshape(values.shape)
    counts = np.bincount(codes[:, 0] * 8 + codes[:, 1], minlength=64)
    assert ((counts - 20_000 / 64) ** 2 / (20_000 / 64)).sum() < 103  # chi-squared, 63 degrees of freedom, p > .001


def test_fewer_pairs_are_the_first_of_more():
    assert RandomFacts(50, 2, 5, 16, 0).draw(range(300)) == FACTS.draw(range(300))[:50]
    assert RandomFacts(50, 2, 5, 16, 1).draw(range(300)) != FACTS.draw(range(300))[:50]


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (RandomFacts(10, 1, 1, 11, 0), "--task.symbols 11 is more than the 10 ordinary tokens"),
        (RandomFacts(6, 1, 1, 2, 0), "--task.pairs 6 needs more keys of 1 tokens than 10 tokens give"),
    ],
)
def test_too_small_a_vocabulary_is_one_sentence(facts, says):
    with pytest.raises(TaskError, match=says):
        facts.draw(range(10))


def test_pairs_that_do_not_fit_the_base_are_one_sentence(task, tiny_base):
    with pytest.raises(TaskError, match="a key and its value take 204 positions"):
        Facts(base=tiny_base, pairs=4, value_tokens=200).prepare(CPU)


def test_bits_of_a_perfect_of_a_uniform_and_of_a_wrong_memory():
    perfect, uniform = (bits_recalled(np.full(10, nats), 20.0, 10, "x", 50) for nats in (0.0, 20 * math.log(2)))
    assert perfect["bits_recalled"].value == 200
    assert perfect["bits_per_parameter"].value == 4
    assert uniform["bits_recalled"].value == pytest.approx(0)
    assert bits_recalled(np.full(10, 40 * math.log(2)), 20.0, 10, "x", 0)["bits_recalled"].value == pytest.approx(-200)
    assert "bits_per_parameter" not in bits_recalled(np.zeros(10), 20.0, 10, "x", 0)


def test_figures_over_all_values_have_no_interval():
    figures = bits_recalled(np.linspace(0, 5, 10), 20.0, 10, "x", 50)
    assert {(figure.low, figure.high) for figure in figures.values()} == {(None, None)}


def test_the_interval_of_a_part_covers_the_sum():
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        figure = bits_recalled(generator.gamma(2.0, 3.0, size=80), 20.0, 800, "x", 10)["bits_recalled"]
        assert figure.low is not None
        assert figure.high is not None
        inside += figure.low <= 800 * (20 - 6 / math.log(2)) <= figure.high
    assert 0.88 <= inside / 200 <= 0.99


def test_recall_is_the_models_own_loss_pair_by_pair(prepared):
    """Against transformers' loss of one unpadded row at a time."""
    nats, right = prepared.recall(prepared.training)
    for i in (0, 7, 39):
        prompt, value = prepared.training[i]
        tokens = torch.tensor([prompt + value])
        labels = tokens.clone()
        labels[:, : len(prompt)] = -100
        with torch.no_grad():
            output = prepared.base.model(input_ids=tokens, labels=labels)
        assert nats[i] == pytest.approx(float(output.loss) * len(value), rel=1e-5)
        assert right[i] == (output.logits[0, len(prompt) - 1 : -1].argmax(-1).tolist() == value)


def test_training_memorises(prepared):
    """Full fine-tuning of the tiny base on 40 pairs of 9 bits: nearly all of the 360."""
    untuned = prepared.evaluate().figures
    assert untuned["bits_recalled"].value < 0
    assert "bits_per_parameter" not in untuned
    train_fully(prepared, 150, 40, 1e-2)
    figures = prepared.evaluate().figures
    assert 340 < figures["bits_recalled"].value < 360
    assert figures["exact_recall"].value > 0.95


def test_a_part_of_the_pairs_estimates_the_bits_of_all(prepared):
    whole, part = prepared.evaluate(), prepared.evaluate_part(0.25)
    chosen = [whole.items[i] for i in fixed_part(40, 0.25)]
    assert [item["item"] for item in part.items] == [item["item"] for item in chosen]
    mean = sum(9 - item["nats"] / math.log(2) for item in chosen) / 10
    figure = part.figures["bits_recalled"]
    assert (figure.value, figure.n) == (pytest.approx(40 * mean, rel=1e-5), 10)
    assert figure.extractor.endswith("all 40 pairs estimated from 10")
    assert part.figures["exact_recall"].n == 10
    assert "validation_loss" not in part.figures
    assert prepared.evaluate_part(1.0).figures["bits_recalled"].value == whole.figures["bits_recalled"].value


@pytest.mark.parametrize(
    "adapter",
    [Lora(rank=2), FullFinetuning(), Bottleneck(width=2), PrefixTuning(length=3), Subspace(dimension=50)],
    ids=lambda adapter: adapter.name,
)
def test_the_bits_are_divided_by_the_trained_parameters(prepared, adapter):
    prepared.reserve_positions(adapter.positions_taken)
    attachment = attach(adapter, prepared.backbone, 0)
    trained = sum(parameter.numel() for parameter in attachment.parameters().values())
    figures = prepared.evaluate().figures
    attachment.detach()
    assert figures["bits_recalled"].value / figures["bits_per_parameter"].value == pytest.approx(trained)


def test_a_run_records_the_bits(task, tmp_path, prepared):
    record = run(Lora(rank=1), task, steps=2, batch_size=4, runs=tmp_path, prepared=prepared)
    figure, per_parameter = record.figure("bits_recalled"), record.figure("bits_per_parameter")
    assert figure.base is not None
    assert figure.value / per_parameter.value == pytest.approx(record.data["parameters"]["trainable"])
    assert record.data["facts"]["bits"] == 40 * 9
