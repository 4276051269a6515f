"""The training seed reaches everything random in a method, whichever generator the method draws it from."""

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.peft_library.seeds import SEED_OPTIONS, peft_seeds
from adapters.peft_method import PeftMethod
from tests.adapters.test_peft_method import ANY_LAYER, LINEAR_LAYERS
from tests.contract import tiny
from tests.contract.tiny import loss, output

PEFT = [PeftMethod(method, options) for method, options in (ANY_LAYER | LINEAR_LAYERS | {"frod": {}}).items()]
PEFT += [
    PeftMethod("lora", {"init_lora_weights": start}) for start in (True, "gaussian", "pissa_niter_4", "orthogonal")
]
PEFT += [PeftMethod("psoft", {"r": 2, "psoft_svd": "lowrank"})]
SEEDED = [method for method in PEFT if peft_seeds(method.method)]
# constants of the layers' shapes: boft's butterfly permutation, the indices of oft's skew-symmetric matrix
OF_THE_SHAPE = ("boft_P", "rows", "cols")


def label(method: PeftMethod) -> str:
    return "-".join([method.method, *map(str, method.given.values())])


def other_base(backbone) -> Any:
    """The same model with other weights."""
    generator = torch.Generator().manual_seed(5)
    other = copy.deepcopy(backbone)
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return other


def tensors(adapter, backbone, seed: int) -> dict[str, Tensor]:
    """Every tensor that the attached adapter adds to the model or saves, wherever a module holds it."""
    backbone = copy.deepcopy(backbone)
    of_base = {id(tensor) for tensor in [*backbone.model.parameters(), *backbone.model.buffers()]}
    attachment = attach(adapter, backbone, seed)
    modules = dict(getattr(attachment, "wrapped", backbone.model).named_modules())
    found = {f"state/{name}": tensor for name, tensor in attachment.state().items()}
    for module_name, module in modules.items():
        fields = {name: value for name, value in vars(module).items() if name != "_modules"}
        for path, tensor in inside(fields, module_name):
            if id(tensor) not in of_base:
                found[path] = tensor.detach().clone()
    return found


def inside(value: Any, path: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield path, value.to_dense() if value.is_sparse else value
    elif isinstance(value, dict | list | tuple):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, part in pairs:
            yield from inside(part, f"{path}/{name}")


def same(first: Tensor | None, second: Tensor | None) -> bool:
    return first is not None and second is not None and torch.equal(first, second)


def check_seeds(adapter, backbone) -> None:
    """One seed twice gives equal tensors. A tensor that three seeds share is constant, or the base's or shape's."""
    first, again, *others = (tensors(adapter, backbone, seed) for seed in (0, 0, 1, 2))
    assert first.keys() == again.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    with_other_base = tensors(adapter, other_base(backbone), 0)
    for name, tensor in first.items():
        if all(same(other.get(name), tensor) for other in others):
            is_constant = bool((tensor == tensor.flatten()[0]).all())
            of_the_base = not same(with_other_base.get(name), tensor)
            assert is_constant or of_the_base or any(part in name for part in OF_THE_SHAPE), name


def test_two_seeds_differ_in_everything_random(adapter, backbone):
    check_seeds(adapter, backbone)


@pytest.mark.parametrize("method", PEFT, ids=label)
def test_two_seeds_differ_in_everything_random_of_peft(method):
    check_seeds(method, tiny.built("llama"))


def test_every_seed_among_pefts_options_is_known():
    """Those of draws in a forward pass stay with the training loop's seeds."""
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    names = {name for config in PEFT_TYPE_TO_CONFIG_MAPPING.values() for name in config.__dataclass_fields__}
    seeds = {name for name in names if "seed" in name or "prng" in name} - {"generator_seed"}
    assert seeds == set(SEED_OPTIONS)


def trained(method, seed: int, backbone=None) -> tuple[Any, Any]:
    """The model and its attached adapter after a change, as by training."""
    backbone = copy.deepcopy(tiny.built("llama")) if backbone is None else backbone
    attachment = attach(method, backbone, seed)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in attachment.parameters().values():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return backbone, attachment


@pytest.mark.parametrize("method", SEEDED, ids=label)
def test_a_saved_adapter_brings_its_seed(method):
    source, attachment = trained(method, seed=1)
    target = copy.deepcopy(tiny.built("llama"))
    loaded = attach(method, target, seed=2)
    assert loaded.facts["seeds"] != attachment.facts["seeds"]
    loaded.load(load(save(attachment.state())))
    assert loaded.facts["seeds"] == attachment.facts["seeds"]
    torch.testing.assert_close(output(target), output(source), atol=1e-5, rtol=1e-5)
    loss(target).backward()
    assert all(parameter.grad is not None for parameter in loaded.parameters().values())
    loaded.detach()
    assert torch.equal(output(target), output(tiny.built("llama")))


@pytest.mark.parametrize("method", SEEDED, ids=label)
def test_an_adapter_of_release_0_1_has_pefts_own_seed(method):
    """Its state holds no seed, whatever the run's seed was."""
    with_own = PeftMethod(method.method, method.given | peft_seeds(method.method))
    source, attachment = trained(with_own, seed=1)
    assert "seeds" not in attachment.facts
    state = attachment.state()
    assert not state.keys() & set(SEED_OPTIONS)
    target = copy.deepcopy(tiny.built("llama"))
    attach(method, target, seed=1).load(state)
    torch.testing.assert_close(output(target), output(source), atol=1e-5, rtol=1e-5)


def test_seed_0_keeps_the_figures_of_release_0_1():
    for method in ("vera", "randlora", "fourierft"):
        now = tensors(PeftMethod(method, ANY_LAYER[method]), tiny.built("llama"), 0)
        own = tensors(PeftMethod(method, ANY_LAYER[method] | peft_seeds(method)), tiny.built("llama"), 0)
        assert all(torch.equal(now[name], tensor) for name, tensor in own.items())


def test_a_seed_among_the_options_wins_and_is_recorded():
    method = PeftMethod("vera", {"r": 4, "projection_prng_key": 11})
    first, second = (tensors(method, tiny.built("llama"), seed) for seed in (0, 1))
    projections = [name for name in first if "vera_A" in name or "vera_B" in name]
    assert projections
    assert all(torch.equal(first[name], second[name]) for name in projections)


def test_pefts_folder_holds_the_seed(tmp_path):
    """fourierft saves no locations: its configuration has to name the seed, for peft and for us."""
    from experiments.records.adapter_file import write_exports

    method = PeftMethod("fourierft", ANY_LAYER["fourierft"])
    source, attachment = trained(method, seed=1)
    write_exports(attachment.export("peft"), tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["random_loc_seed"] == 1_000_003 + 777
    target = copy.deepcopy(tiny.built("llama"))
    attach(PeftMethod("fourierft", ANY_LAYER["fourierft"], init=str(tmp_path)), target, seed=2)
    torch.testing.assert_close(output(target), output(source), atol=1e-5, rtol=1e-5)
    other = PeftMethod("fourierft", ANY_LAYER["fourierft"] | {"random_loc_seed": 5}, init=str(tmp_path))
    with pytest.raises(AdapterError, match="saved with random_loc_seed 1000780, not 5"):
        attach(other, copy.deepcopy(tiny.built("llama")), seed=2)
