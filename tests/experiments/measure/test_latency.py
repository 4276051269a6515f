"""How latencies are compared, on calls of known length, and what is measured of a tiny model."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
import torch

from adapters.full_finetuning import FullFinetuning
from adapters.lora import Lora
from adapters.prefix_tuning import PrefixTuning
from experiments.measure import latency
from experiments.measure.latency import ModelInput, Variant, inference, interleaved, median_interval, merge_error
from tests.experiments.tiny_task import PreparedTiny, Tiny


def test_ratio_by_hand():
    found = latency.ratio([2.0, 3.0, 8.0, 5.0, 6.0, 7.0], [1.0, 1.0, 2.0, 1.0, 1.0, 1.0])
    assert (found.median, found.low, found.high, found.n) == (4.5, 2.0, 7.0, 6)


def test_interval_covers_the_median_as_often_as_it_says():
    generator = np.random.default_rng(0)
    for n in (8, 15, 30):
        low, high = median_interval(n)
        rounds = np.sort(generator.lognormal(size=(20_000, n)), axis=1)  # the median is 1
        assert 0.945 < np.mean((rounds[:, low] <= 1) & (rounds[:, high] >= 1)) < 0.995


def test_rounds_turn_and_contexts_are_not_timed(monkeypatch):
    calls = []
    monkeypatch.setattr(latency, "timed", lambda call, device: call())

    @contextmanager
    def entered():
        calls.append("in")
        yield
        calls.append("out")

    variants = {"a": Variant(lambda: calls.append("a") or 1.0), "b": Variant(lambda: calls.append("b") or 2.0, entered)}
    assert interleaved(variants, 2, "cpu") == {"a": [1.0, 1.0], "b": [2.0, 2.0]}
    each = latency.WARM_UP + latency.CALLS
    first, second = ["a"] * each, ["in", *["b"] * each, "out"]
    assert calls == [*first, *second, *second, *first]


@pytest.fixture
def prepared() -> PreparedTiny:
    return PreparedTiny(Tiny())


def attached(adapter, prepared: PreparedTiny):
    """Attached, and moved away from its initial values."""
    torch.manual_seed(1)
    attachment = adapter.attach(prepared.backbone)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.1 * torch.randn_like(parameter))
    prepared.backbone.model.eval()
    return attachment


def test_model_input_is_what_the_loss_gives_to_the_model(prepared):
    _, expected = next(prepared.batches(0, 0, 3))
    attached(PrefixTuning(length=2), prepared)  # whose own hook changes the call
    found = ModelInput.of(prepared, 3)
    assert torch.equal(found.kwargs["input_ids"], expected)
    assert "position_ids" not in found.kwargs
    whole = found.forward()
    assert whole.shape == (3, 12, 64)
    torch.testing.assert_close(found.item(1).forward(), whole[1:2])


def test_merge_error_is_the_difference_of_the_outputs(prepared):
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
def test_inference_leaves_the_attachment_as_it_was(prepared, adapter, mergeable):
    forward = ModelInput.of(prepared, 1).forward
    attachment = attached(adapter, prepared)
    tuned = forward()
    found = inference(attachment, forward, 1, mergeable, rounds=6)
    assert torch.equal(forward(), tuned)
    assert found.unmerged.n == found.control.n == 6
    assert found.unmerged.low <= found.unmerged.median <= found.unmerged.high
    assert (found.merged is not None) == mergeable == (found.relative_difference is not None)


@pytest.mark.parametrize("adapter", [Lora(rank=2), FullFinetuning()])
def test_switch_loads_the_bytes_of_a_state(prepared, adapter):
    attachment = attached(adapter, prepared)
    first = attachment.state()
    second = {name: value + 1 for name, value in first.items()}
    found = latency.switch(attachment, [second, first], rounds=2)
    assert found.bytes == 4 * sum(p.numel() for p in attachment.parameters().values())
    assert found.n == 4
    assert found.low <= found.seconds <= found.high
    assert all(torch.equal(first[name], value) for name, value in attachment.state().items())


@pytest.mark.parametrize(("adapter", "can"), [(Lora(rank=2), True), (FullFinetuning(), False)])
def test_mixed_batch_is_measured_where_the_method_can(prepared, adapter, can):
    whole = ModelInput.of(prepared, 2)
    attachment = attached(adapter, prepared)
    states = [attachment.state(), {name: value + 0.01 for name, value in attachment.state().items()}]
    found = latency.mixed_batch(attachment, whole.forward, lambda i: whole.item(i).forward(), states, rounds=6)
    assert (found.items, found.adapters) == (2, 2)
    assert (found.seconds is not None) == can == (found.ratio is not None)
    assert found.one_by_one_seconds > 0
