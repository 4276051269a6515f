"""The properties that every method has on every backbone."""

import copy
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from adapters.base import Attachment, adapter_registry
from adapters.errors import AdapterError
from adapters.mixture import mixable, mixed
from tests.contract import tiny
from tests.contract.tiny import loss, output


def attach_seeded(adapter, backbone, seed: int = 0) -> Attachment:
    torch.manual_seed(seed)
    return adapter.attach(backbone)


def attach_perturbed(adapter, backbone) -> Attachment:
    """The attached adapter away from its initial values, as after some training."""
    attachment = attach_seeded(adapter, backbone)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator).to(parameter.dtype))
    return attachment


def gradients(backbone, attachment, wrapped=None) -> dict[str, Any]:
    backbone.model.zero_grad()
    torch.manual_seed(4)  # dropout
    loss(backbone, wrapped).backward()
    return {name: parameter.grad for name, parameter in attachment.parameters().items()}


def test_initial_output_is_that_of_the_base(adapter, backbone):
    before = output(backbone)
    attach_seeded(adapter, backbone)
    assert torch.equal(output(backbone), before) == adapter.starts_as_identity


def test_equal_seeds_give_equal_states(adapter, backbone, twin):
    first, second = attach_seeded(adapter, backbone).state(), attach_seeded(adapter, twin).state()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_the_adapters_parameters_train(adapter, backbone, twin):
    attachment = attach_seeded(adapter, backbone)
    owned = {id(parameter) for parameter in attachment.parameters().values()}
    trained = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trained} == owned, "data-parallel training would miss parameters"
    frozen = [p for p in backbone.model.parameters() if id(p) not in owned]
    before = [p.clone() for p in frozen]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    loss(backbone).backward()
    optimizer.step()
    assert all(torch.equal(now, then) for now, then in zip(frozen, before, strict=True))
    assert not torch.equal(output(backbone), output(twin))


def test_the_gradient_is_the_slope_of_the_loss(adapter, backbone):
    """From -r g to r g the loss rises by 2 r |g|^2, whatever the curvature: with r chosen for 0.02 %."""
    attachment = attach_perturbed(adapter, backbone)
    before = loss(backbone).item()
    gradient = gradients(backbone, attachment)
    squared_norm = sum(float(g.square().sum()) for g in gradient.values())
    losses = []
    for step in (-1e-4, 2e-4):
        with torch.no_grad():
            for name, parameter in attachment.parameters().items():
                parameter.add_(gradient[name], alpha=step * before / squared_norm)
        losses.append(loss(backbone).item())
    assert losses[1] - losses[0] == pytest.approx(2e-4 * before, rel=0.1)


def test_parameter_count_equals_the_formula(with_formula, backbone):
    expected = with_formula.parameter_count(backbone)
    counted = sum(parameter.numel() for parameter in attach_seeded(with_formula, backbone).parameters().values())
    assert counted == expected


def test_methods_without_a_formula_do_not_guess(without_formula, backbone):
    assert without_formula.parameter_count(backbone) is None


def test_loaded_state_gives_the_same_output(adapter, backbone, twin):
    source, target = attach_perturbed(adapter, backbone), attach_seeded(adapter, twin, seed=7)
    target.load(load(save(source.state())))
    assert torch.equal(output(twin), output(backbone))


def test_state_with_other_names_or_shapes_is_refused(adapter, backbone):
    attachment = attach_seeded(adapter, backbone)
    state = attachment.state()
    name = next(iter(state))
    with pytest.raises(AdapterError):
        attachment.load({**state, "unknown": state[name]})
    with pytest.raises(AdapterError):
        attachment.load({**state, name: torch.zeros(*state[name].shape, 2)})


def test_disabled_is_the_base_model(adapter, backbone):
    before = output(backbone)
    attachment = attach_perturbed(adapter, backbone)
    tuned = output(backbone)
    assert not torch.equal(tuned, before)
    with attachment.disabled():
        assert torch.equal(output(backbone), before)
    assert torch.equal(output(backbone), tuned)


def test_detach_restores_the_base_model(adapter, backbone, twin):
    attachment = attach_perturbed(adapter, backbone)
    gradients(backbone, attachment)
    attachment.detach()
    assert torch.equal(output(backbone), output(twin))
    now, then = backbone.model.state_dict(), twin.model.state_dict()
    assert list(now) == list(then)
    assert all(torch.equal(now[name], then[name]) for name in then)
    flags = [[(name, p.requires_grad) for name, p in side.model.named_parameters()] for side in (backbone, twin)]
    assert flags[0] == flags[1]
    assert len(hooked_modules(backbone)) == len(hooked_modules(twin))


def test_attaching_again_after_detach(adapter, backbone):
    attach_perturbed(adapter, backbone).detach()
    attachment = attach_seeded(adapter, backbone)
    assert all(grad is not None for grad in gradients(backbone, attachment).values())


def test_merging_keeps_the_output(mergeable, backbone, twin):
    attachment = attach_perturbed(mergeable, backbone)
    tuned = output(backbone)
    attachment.merge()
    torch.testing.assert_close(output(backbone), tuned, atol=1e-5, rtol=1e-5)
    attachment.unmerge()
    assert torch.equal(output(backbone), tuned)
    attachment.merge()
    attachment.detach()
    assert torch.equal(output(backbone), output(twin))


def test_merging_is_refused_otherwise(not_mergeable, backbone):
    attachment = attach_perturbed(not_mergeable, backbone)
    for change in (attachment.merge, attachment.unmerge):
        with pytest.raises(AdapterError, match="cannot be merged"):
            change()


def formats_on(adapter, kind: str, formats: Iterable[str]) -> Iterator[str]:
    """The formats that the attached adapter exports to on one kind of backbone."""
    attachment = attach_seeded(adapter, copy.deepcopy(tiny.built(kind)))
    for form in formats:
        with suppress(AdapterError):
            if attachment.export(form):
                yield form


def test_the_declared_formats_are_those_that_some_model_has(with_known_formats):
    everything = {form for cls in adapter_registry().values() for form in cls.formats or ()}
    found = {form for kind in tiny.BUILDERS for form in formats_on(with_known_formats, kind, everything)}
    assert found == set(with_known_formats.formats)


def hooked_modules(backbone) -> list[Any]:
    return [module for module in backbone.model.modules() if module._forward_hooks or module._forward_pre_hooks]


def test_disabled_has_no_hooks(adapter, backbone):
    """So the base model is as fast as without the adapter."""
    before = hooked_modules(backbone)
    with attach_perturbed(adapter, backbone).disabled():
        assert hooked_modules(backbone) == before


def test_merged_has_no_hooks(mergeable, backbone):
    before = hooked_modules(backbone)
    attach_perturbed(mergeable, backbone).merge()
    assert hooked_modules(backbone) == before


def test_a_mixed_batch_applies_to_each_item_its_adapter_or_is_refused(adapter, backbone):
    attachment = attach_perturbed(adapter, backbone)
    first = attachment.state()
    if not mixable(attachment):
        with pytest.raises(AdapterError, match="load one at a time"), mixed(attachment, [first, first], [0, 1]):
            pass
        return
    second = {name: value * 1.5 if value.is_floating_point() else value for name, value in first.items()}
    alone = []
    for state in (first, second):
        attachment.load(state)
        alone.append(output(backbone))
    with mixed(attachment, [first, second], [1, 0]):
        result = output(backbone)
    torch.testing.assert_close(result, torch.stack([alone[1][0], alone[0][1]]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(result, alone[1], atol=1e-5, rtol=1e-5)
    assert torch.equal(output(backbone), alone[1])
    with pytest.raises(AdapterError, match="names one of 2 adapters"), mixed(attachment, [first, second], [0, 2]):
        pass
    refused = pytest.raises(AdapterError, match="merged or disabled")
    with attachment.disabled(), refused, mixed(attachment, [first], [0]):
        pass


@pytest.mark.parametrize("name", ["lora", "bottleneck"])
def test_methods_that_can_be_mixed(name, backbone):
    assert mixable(adapter_registry()[name]().attach(backbone))


def test_every_parameter_gets_a_gradient(adapter, backbone):
    attachment = attach_perturbed(adapter, backbone)
    for name, gradient in gradients(backbone, attachment).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_gradient_checkpointing_keeps_the_gradients(adapter, backbone):
    attachment = attach_perturbed(adapter, backbone)
    backbone.model.train()
    plain = gradients(backbone, attachment)
    backbone.set_gradient_checkpointing(True)
    checkpointed = gradients(backbone, attachment)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4)
    backbone.set_gradient_checkpointing(False)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in backbone.model.modules())


def test_deepcopy_is_independent(adapter, backbone):
    attachment = attach_perturbed(adapter, backbone)
    tuned = output(backbone)
    copied = copy.deepcopy(attachment)
    assert torch.equal(output(copied.backbone), tuned)
    with torch.no_grad():
        for parameter in copied.parameters().values():
            parameter.add_(0.1)
    assert not torch.equal(output(copied.backbone), tuned)
    assert torch.equal(output(backbone), tuned)
    copied.detach()
    assert torch.equal(output(backbone), tuned)


def test_deepcopied_model_gives_the_same_output(adapter, backbone):
    attach_perturbed(adapter, backbone)
    tuned = output(backbone)
    backbone.model = copy.deepcopy(backbone.model)
    assert torch.equal(output(backbone), tuned)


def test_data_parallel_training_keeps_the_gradients(adapter, backbone, process_group):
    attachment = attach_perturbed(adapter, backbone)
    plain = gradients(backbone, attachment)
    wrapped = torch.nn.parallel.DistributedDataParallel(backbone.model)
    for _ in range(2):  # the second pass fails if a parameter did not take part in the first
        parallel = gradients(backbone, attachment, wrapped)
        for name, gradient in plain.items():
            torch.testing.assert_close(parallel[name], gradient)
