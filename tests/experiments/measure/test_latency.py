"""Comparing latencies on calls of known duration, and measuring a tiny model."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.measure import timing
from experiments.measure.latency import measure_inference, measure_mixed_batch, measure_switch, merge_error
from experiments.measure.model_input import ModelInput
from experiments.measure.timing import Variant, median_interval, paired_ratio, time_interleaved
from tests.experiments.tiny_task import PreparedTiny, Tiny


def test_ratio_by_hand():
    ratio = paired_ratio([2.0, 3.0, 8.0, 5.0, 6.0, 7.0], [1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    assert (ratio.median, ratio.low, ratio.high, ratio.n) == (4.5, 2.0, 7.0, 6)


def test_the_interval_has_its_nominal_coverage():
    generator = np.random.default_rng(0)
    for n in (8, 15, 30):
        low, high = median_interval(n)
        rounds = np.sort(generator.lognormal(size=(20_000, n)), axis=1)  # the median is 1
        assert 0.945 < np.mean((rounds[:, low] <= 1) & (rounds[:, high] >= 1)) < 0.995


def test_order_rotates_and_contexts_are_not_timed(monkeypatch):
    calls = []
    monkeypatch.setattr(timing, "time_call", lambda call, device: call())

    @contextmanager
    def entered():
        calls.append("in")
        yield
        calls.append("out")

    variants = {"a": Variant(lambda: calls.append("a") or 1.0), "b": Variant(lambda: calls.append("b") or 2.0, entered)}
    assert time_interleaved(variants, 2, "cpu") == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    each = timing.WARMUP_CALLS + timing.TIMED_CALLS
    first, second = ["a"] * each, ["in", *["b"] * each, "out"]
    assert calls == [*first, *second, *second, *first]


@pytest.fixture
def prepared() -> PreparedTiny:
    return PreparedTiny(Tiny())


def attached(adapter, prepared: PreparedTiny):
    """Attach, and perturb the initial values."""
    torch.manual_seed(1)
    attachment = adapter.attach(prepared.backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prepared.backbone.model.eval()
    return attachment


def test_model_input_captures_the_call_that_the_loss_makes(prepared):
    _, expected = next(prepared.batches(0, 0, 3))
    attached(PrefixTuning(length=2), prepared)  # its hook changes the call
    captured = ModelInput.of(prepared, 3)
    assert torch.equal(captured.kwargs["input_ids"], expected)
    assert "position_ids" not in captured.kwargs
    whole = captured.forward()
    assert whole.shape == (3, 12, 64)
    torch.testing.assert_close(captured.item(1).forward(), whole[1:2])


def test_merge_error_is_the_difference_between_the_outputs(prepared):
    forward = ModelInput.of(prepared, 2).forward
    attachment = attached(Lora(rank=2), prepared)
    largest, relative = merge_error(attachment, forward)
    assert 0 <= relative < 1e-5
    assert 0 <= largest < 1e-4
    attachment.merge = lambda: attachment.load({name: 2 * p for name, p in attachment.state().items()})
    attachment.unmerge = lambda: None
    before = forward().detach()
    largest, relative = merge_error(attachment, forward)
    difference = forward().detach() - before
    assert largest == pytest.approx(difference.abs().max().item(), rel=1e-4)
    assert relative == pytest.approx((difference.norm() / before.norm()).item(), rel=1e-4)


@pytest.mark.parametrize(("adapter", "mergeable"), [(Lora(rank=2), True), (PrefixTuning(length=2), False)])
def test_measuring_inference_restores_the_attachment(prepared, adapter, mergeable):
    forward = ModelInput.of(prepared, 1).forward
    attachment = attached(adapter, prepared)
    tuned = forward()
    measured = measure_inference(attachment, forward, 1, mergeable, rounds=6)
    assert torch.equal(forward(), tuned)
    assert measured.unmerged.n == measured.control.n == 6
    assert measured.unmerged.low <= measured.unmerged.median <= measured.unmerged.high
    assert (measured.merged is not None) == mergeable == (measured.relative_difference is not None)


@pytest.mark.parametrize("adapter", [Lora(rank=2), FullFinetuning()])
def test_switching_reads_the_bytes_of_a_state(prepared, adapter):
    attachment = attached(adapter, prepared)
    first = attachment.state()
    second = {name: value + 1 for name, value in first.items()}
    measured = measure_switch(attachment, [second, first], rounds=2)
    assert measured.bytes == 4 * sum(p.numel() for p in attachment.parameters().values())
    assert measured.n == 4
    assert measured.low <= measured.seconds <= measured.high
    assert all(torch.equal(first[name], value) for name, value in attachment.state().items())


@pytest.mark.parametrize(("adapter", "can"), [(Lora(rank=2), True), (FullFinetuning(), False)])
def test_mixed_batches_are_measured_for_methods_that_support_them(prepared, adapter, can):
    whole = ModelInput.of(prepared, 2)
    attachment = attached(adapter, prepared)
    states = [attachment.state(), {name: value + 0.01 for name, value in attachment.state().items()}]
    measured = measure_mixed_batch(attachment, whole.forward, lambda i: whole.item(i).forward(), states, rounds=6)
    assert (measured.items, measured.adapters) == (2, 2)
    assert (measured.seconds is not None) == can == (measured.ratio is not None)
    assert measured.one_by_one_seconds > 0
