"""Advice after running out of memory: the advised batch fits, and is close to the largest that does."""

import re
from dataclasses import replace

import pytest
import torch

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict
from experiments.planning.memory_plan import GIB, PlanSettings, plan
from experiments.planning.oom_advice import free_memory, what_would_fit
from tasks.language.e2e import EndToEnd
from tasks.language.style import Style


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from transformers import GPT2Config

    folder = tmp_path_factory.mktemp("base")
    GPT2Config(vocab_size=500, n_positions=64, n_embd=32, n_layer=1, n_head=2).save_pretrained(folder)
    return RunConfig(
        Lora(rank=2), Style(base=str(folder), max_length=64), Train(batch_size=64, device="cpu")
    ).resolved()


def peak(config, batch):
    return predict(replace(config, train=replace(config.train, batch_size=batch))).training.peak


def advised_batch(config, free):
    match = re.search(r"--train\.batch-size (\d+) is predicted", what_would_fit(config, free) or "")
    assert match is not None
    return int(match[1])


def test_the_advised_batch_fits(config):
    free = peak(config, 20)
    batch = advised_batch(config, free)
    assert 10 <= batch <= 20
    assert peak(config, batch) <= free


def test_advice_uses_the_rules_of_the_runs_own_device(config, monkeypatch):
    """CUDA's AdamW copies a moment of every weight at once, and its allocator fragments."""
    config = replace(config, train=replace(config.train, batch_size=2000))
    on_cuda = plan(config, PlanSettings(device="cuda", context=0))  # what its context takes is not free
    free = round(on_cuda.needed_at(200) * GIB)
    on_cpu = advised_batch(config, free)
    monkeypatch.setattr("experiments.planning.oom_advice.device_of", lambda config: torch.device("cuda"))
    batch = advised_batch(config, free)
    assert batch != on_cpu
    assert on_cuda.needed_at(batch) * GIB <= free + 1
    assert on_cuda.needed_at(batch + 1) * GIB > free


def test_an_evaluation_that_does_not_fit_is_not_blamed_on_the_batch(config):
    task = EndToEnd(base=config.task.base, max_new_tokens=24, test_items=30)
    small = RunConfig(config.adapter, task, Train(batch_size=1, device="cpu")).resolved()
    advice = what_would_fit(small, peak(small, 1))
    assert advice is not None
    assert "the evaluation does not depend on the training batch" in advice


def test_if_nothing_fits_the_advice_is_a_smaller_base(config):
    advice = what_would_fit(config, 10**4)
    assert advice is not None
    assert "even --train.batch-size 1 --train.gradient-checkpointing" in advice
    assert "smaller base" in advice


def test_there_is_no_advice_without_a_prediction(config):
    assert what_would_fit(config, None) is None
    assert what_would_fit(replace(config, task=Style(base="no/such base")), 10**6) is None
    assert (free_memory(torch.device("cpu")) or 0) > 0
