"""What every method promises on every backbone."""

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from adapters.base import Attachment
from adapters.errors import AdapterError
from tests.contract.tiny import loss, output


def attached(adapter, backbone, seed: int = 0) -> Attachment:
    torch.manual_seed(seed)
    return adapter.attach(backbone)


def perturbed(adapter, backbone) -> Attachment:
    """Attached, and moved away from its initial values as training would."""
    attachment = attached(adapter, backbone)
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


def test_output_is_unchanged_at_the_start(adapter, backbone):
    before = output(backbone)
    attached(adapter, backbone)
    assert torch.equal(output(backbone), before) == adapter.starts_as_identity


def test_equal_seeds_start_equal(adapter, backbone, twin):
    first, second = attached(adapter, backbone).state(), attached(adapter, twin).state()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_its_parameters_move(adapter, backbone, twin):
    attachment = attached(adapter, backbone)
    owned = {id(parameter) for parameter in attachment.parameters().values()}
    trained = [parameter for parameter in backbone.model.parameters() if parameter.requires_grad]
    assert {id(parameter) for parameter in trained} == owned, "data parallel training would miss parameters"
    frozen = [p for p in backbone.model.parameters() if id(p) not in owned]
    before = [p.clone() for p in frozen]
    optimizer = torch.optim.SGD(trained, lr=0.1)
    loss(backbone).backward()
    optimizer.step()
    assert all(torch.equal(now, then) for now, then in zip(frozen, before, strict=True))
    assert not torch.equal(output(backbone), output(twin))


def test_learns(adapter, backbone):
    parameters = attached(adapter, backbone).parameters().values()
    optimizer = torch.optim.AdamW(parameters, lr=2e-3, weight_decay=0)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        current = loss(backbone)
        current.backward()
        optimizer.step()
        losses.append(current.item())
    assert losses[-1] < losses[0]


def test_count_equals_the_formula(adapter, backbone):
    expected = adapter.parameter_count(backbone)
    counted = sum(parameter.numel() for parameter in attached(adapter, backbone).parameters().values())
    assert expected in (None, counted)


def test_state_loads_elsewhere(adapter, backbone, twin):
    source, target = perturbed(adapter, backbone), attached(adapter, twin, seed=7)
    target.load(load(save(source.state())))
    assert torch.equal(output(twin), output(backbone))


def test_state_of_other_names_or_shapes_is_refused(adapter, backbone):
    attachment = attached(adapter, backbone)
    state = attachment.state()
    name = next(iter(state))
    with pytest.raises(AdapterError):
        attachment.load({**state, "unknown": state[name]})
    with pytest.raises(AdapterError):
        attachment.load({**state, name: torch.zeros(*state[name].shape, 2)})


def test_disabled_is_the_base_model(adapter, backbone):
    before = output(backbone)
    attachment = perturbed(adapter, backbone)
    tuned = output(backbone)
    assert not torch.equal(tuned, before)
    with attachment.disabled():
        assert torch.equal(output(backbone), before)
    assert torch.equal(output(backbone), tuned)


def test_detach_gives_the_base_model_back(adapter, backbone, twin):
    attachment = perturbed(adapter, backbone)
    gradients(backbone, attachment)
    attachment.detach()
    assert torch.equal(output(backbone), output(twin))
    now, then = backbone.model.state_dict(), twin.model.state_dict()
    assert list(now) == list(then)
    assert all(torch.equal(now[name], then[name]) for name in then)
    flags = [[(name, p.requires_grad) for name, p in side.model.named_parameters()] for side in (backbone, twin)]
    assert flags[0] == flags[1]
    hooks = [m for m in backbone.model.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks


def test_attaches_again_after_detach(adapter, backbone):
    perturbed(adapter, backbone).detach()
    attachment = attached(adapter, backbone)
    assert all(grad is not None for grad in gradients(backbone, attachment).values())


def test_merged_equals_unmerged(adapter, backbone, twin):
    attachment = perturbed(adapter, backbone)
    if not adapter.mergeable:
        with pytest.raises(AdapterError):
            attachment.merge()
        return
    tuned = output(backbone)
    attachment.merge()
    torch.testing.assert_close(output(backbone), tuned, atol=1e-5, rtol=1e-5)
    attachment.unmerge()
    assert torch.equal(output(backbone), tuned)
    attachment.merge()
    attachment.detach()
    assert torch.equal(output(backbone), output(twin))


def test_disabled_or_merged_there_are_no_hooks(adapter, backbone):
    """So the base model costs nothing more than before, and neither does a merged one."""

    def hooks():
        return [module for module in backbone.model.modules() if module._forward_hooks or module._forward_pre_hooks]

    before = len(hooks())
    attachment = perturbed(adapter, backbone)
    with attachment.disabled():
        assert len(hooks()) == before
    if adapter.mergeable:
        attachment.merge()
        assert len(hooks()) == before


def test_mixed_batch_gives_each_item_its_own_adapter(adapter, backbone):
    attachment = perturbed(adapter, backbone)
    first = attachment.state()
    second = {name: value * 1.5 if value.is_floating_point() else value for name, value in first.items()}
    if not attachment.mixable:
        with pytest.raises(AdapterError, match="load one at a time"), attachment.mixed([first, second], [0, 1]):
            pass
        return
    alone = []
    for state in (first, second):
        attachment.load(state)
        alone.append(output(backbone))
    with attachment.mixed([first, second], [1, 0]):
        mixed = output(backbone)
    torch.testing.assert_close(mixed, torch.stack([alone[1][0], alone[0][1]]), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(mixed, alone[1], atol=1e-5, rtol=1e-5)
    assert torch.equal(output(backbone), alone[1])
    with pytest.raises(AdapterError, match="names one of 2 adapters"), attachment.mixed([first, second], [0, 2]):
        pass


def test_every_parameter_gets_a_gradient(adapter, backbone):
    attachment = perturbed(adapter, backbone)
    for name, gradient in gradients(backbone, attachment).items():
        assert gradient is not None, name
        assert gradient.isfinite().all(), name
        assert gradient.any(), name


def test_gradient_checkpointing_changes_no_gradient(adapter, backbone):
    attachment = perturbed(adapter, backbone)
    backbone.model.train()
    plain = gradients(backbone, attachment)
    backbone.set_gradient_checkpointing(True)
    checkpointed = gradients(backbone, attachment)
    for name, gradient in plain.items():
        torch.testing.assert_close(checkpointed[name], gradient, atol=1e-6, rtol=1e-4)
    backbone.set_gradient_checkpointing(False)
    assert not any(getattr(module, "gradient_checkpointing", False) for module in backbone.model.modules())


def test_bf16_weights(adapter, backbone):
    backbone.model.to(torch.bfloat16)
    before = output(backbone)
    attachment = perturbed(adapter, backbone)
    assert output(backbone).dtype == torch.bfloat16
    assert all(gradient.isfinite().all() for gradient in gradients(backbone, attachment).values())
    with attachment.disabled():
        assert torch.equal(output(backbone), before)
    attachment.detach()
    assert torch.equal(output(backbone), before)


def test_deepcopy_is_independent(adapter, backbone):
    attachment = perturbed(adapter, backbone)
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


def test_deepcopied_model_computes_the_same(adapter, backbone):
    perturbed(adapter, backbone)
    tuned = output(backbone)
    backbone.model = copy.deepcopy(backbone.model)
    assert torch.equal(output(backbone), tuned)


def test_data_parallel_training_gives_the_same_gradients(adapter, backbone, process_group):
    attachment = perturbed(adapter, backbone)
    plain = gradients(backbone, attachment)
    wrapped = torch.nn.parallel.DistributedDataParallel(backbone.model)
    for _ in range(2):  # the second pass fails where a parameter took no part in the first
        parallel = gradients(backbone, attachment, wrapped)
        for name, gradient in plain.items():
            torch.testing.assert_close(parallel[name], gradient)
