"""What would fit: the batch that is named is predicted to fit, and the next larger ones are not far off."""

import re
from dataclasses import replace

import pytest
import torch

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.measure.memory_prediction import predict
from experiments.records.oom_advice import room, what_would_fit
from tasks.language.style import Style


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from transformers import GPT2Config

    folder = tmp_path_factory.mktemp("base")
    GPT2Config(vocab_size=500, n_positions=64, n_embd=32, n_layer=1, n_head=2).save_pretrained(folder)
    return RunConfig(Lora(rank=2), Style(base=str(folder), max_length=64), Train(batch_size=64, device="cpu")).resolved()


def peak(config, batch):
    return predict(replace(config, train=replace(config.train, batch_size=batch))).peak


def test_the_named_batch_fits(config):
    free = peak(config, 20)
    said = what_would_fit(config, free)
    assert said is not None
    named = re.search(r"--train\.batch (\d+) is predicted", said)
    assert named is not None
    assert 10 <= int(named[1]) <= 20
    assert peak(config, int(named[1])) <= free


def test_a_large_batch_is_on_the_line_through_smaller_ones(config):
    large = replace(config, train=replace(config.train, batch_size=500))
    said = what_would_fit(large, peak(config, 90))
    assert said is not None
    named = re.search(r"--train\.batch (\d+) is predicted", said)
    assert named is not None
    assert int(named[1]) == pytest.approx(90, abs=3)


def test_where_nothing_fits_it_says_so(config):
    said = what_would_fit(config, 10**4)
    assert said is not None
    assert "even --train.batch-size 1 --train.gradient-checkpointing" in said


def test_nothing_is_said_where_nothing_is_known(config):
    assert what_would_fit(config, None) is None
    assert what_would_fit(replace(config, task=Style(base="no/such base")), 10**6) is None
    assert (room(torch.device("cpu")) or 0) > 0
