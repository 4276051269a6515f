"""peft's methods by name: each supported one trains and detaches cleanly; the others are refused before training."""

import copy
import json
import shlex
import sys
from typing import Any

import pytest
import torch

from adapters.base import attach
from adapters.errors import AdapterError
from adapters.peft_method import PeftMethod
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.run import RunOptions
from tasks.base import task_registry
from tests.contract import tiny
from tests.contract.tiny import loss, output

TASK = task_registry()["e2e"]()

# methods, with options that suit layers of width 32
ANY_LAYER = {
    "lora": {"r": 2, "use_dora": True},
    "ia3": {},
    "ln_tuning": {},
    "fourierft": {"n_frequency": 20},
    "randlora": {"r": 2},
    "hira": {"r": 2},
    "waveft": {"n_frequency": 20},
    "gralora": {"r": 4},
    "deft": {"r": 2},
    "vera": {"r": 4},
    "pvera": {"r": 4},
    "vblora": {"vector_length": 4, "num_vectors": 16, "topk": 2},
    "unilora": {},
    "tinylora": {},
}
LINEAR_LAYERS = {
    "boft": {"boft_block_size": 4},
    "oft": {"oft_block_size": 4},
    "beft": {},
    "lily": {},
    "loha": {},
    "lokr": {},
    "glora": {},
    "hra": {"r": 2},
    "c3a": {"block_size": 8},
    "delora": {"r": 2},
    "psoft": {"r": 2},
    "peanut": {},
    "supertuning": {},
    "miss": {"r": 2},
    "road": {"group_size": 8},
    "shira": {"r": 2},
    "osf": {},
}
CASES: list[Any] = [(kind, *case) for kind in tiny.USUAL for case in ANY_LAYER.items()]
CASES += [pytest.param("unet", *case, marks=pytest.mark.slow) for case in ANY_LAYER.items()]
CASES += [("xl+clips", "vera", {"r": 4})]
CASES += [(kind, *case) for kind in ("llama", "unet") for case in LINEAR_LAYERS.items()]
# the base's own biases train
CASES += [(kind, "lora", {"r": 2, "bias": biases}) for kind in tiny.BUILDERS for biases in ("all", "lora_only")]


@pytest.mark.parametrize(("kind", "method", "options"), CASES)
def test_trains_and_detaches_cleanly(kind, method, options):
    backbone = copy.deepcopy(tiny.built(kind))
    before, names = output(backbone), list(backbone.model.state_dict())
    torch.manual_seed(0)
    attachment = PeftMethod(method=method, options=options).attach(backbone)
    loss(backbone).backward()
    owned = attachment.parameters().values()
    assert any(parameter.grad is not None for parameter in owned)
    with torch.no_grad():
        for parameter in owned:
            parameter.add_(0.1 * torch.rand_like(parameter))
    assert not torch.equal(output(backbone), before)
    twin = copy.deepcopy(tiny.built(kind))
    torch.manual_seed(7)
    PeftMethod(method=method, options=options).attach(twin).load(attachment.state())
    torch.testing.assert_close(output(twin), output(backbone), atol=1e-5, rtol=1e-5)
    with attachment.disabled():
        assert torch.equal(output(backbone), before)
    attachment.detach()
    assert torch.equal(output(backbone), before)
    assert list(backbone.model.state_dict()) == names
    assert count_hooks(backbone.model) == count_hooks(tiny.built(kind).model)
    assert all(parameter.requires_grad for parameter in backbone.model.parameters())


def count_hooks(model: Any) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(("method", "options"), LINEAR_LAYERS.items())
def test_methods_for_linear_layers_are_refused_on_gpt2(gpt2, method, options):
    before = output(gpt2)
    with pytest.raises(AdapterError):
        PeftMethod(method=method, options=options).attach(gpt2)
    assert torch.equal(output(gpt2), before)
    assert all(parameter.requires_grad for parameter in gpt2.model.parameters())


def test_a_method_that_needs_another_package_names_it(monkeypatch, llama):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    for check in (PeftMethod("adamss").check_settings, lambda: PeftMethod("adamss").attach(llama)):
        with pytest.raises(AdapterError, match="needs another package: scikit-learn is required") as error:
            check()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lorra"}, "it has ada"),
        ({"method": "prefix_tuning"}, "use the method `prefix`"),
        ({"options": {"rank": 8}}, "no option 'rank'"),
        ({"options": {"r": 0}}, "peft's lora"),
        ({"options": {"lora_alpha": 0}}, "lora_alpha must be above 0, not 0"),
    ],
)
def test_options_are_checked_without_a_model(settings, message):
    with pytest.raises(AdapterError, match=message) as error:
        PeftMethod(**settings).check_settings()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", ['{"lora_alpha": NaN}', {"lora_alpha": float("inf")}])
def test_numbers_in_options_are_finite(options):
    with pytest.raises(AdapterError, match="is not a finite number"):
        PeftMethod(options=options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "lorra"}, "it has ada"),
        ({"method": "prefix_tuning"}, "use the method `prefix`"),
        ({"method": "adalora", "options": {"init_r": 4, "target_r": 4}}, "must be below the rank at the start"),
        ({"method": "adaption_prompt"}, "needs adapter_layers and adapter_len, for example"),
        ({"method": "shadow"}, "not supported, because it trains a second, small model"),
        ({"options": "r=8"}, "must be a JSON object such as"),
        ({"options": "[8]"}, "must be a JSON object .*, not \\[8\\]"),
        ({"options": {"dtype": torch.float32}}, "must be a JSON object"),
        ({"options": {"rank": 8}}, "no option 'rank'"),
        ({"options": {"r": 0}}, "peft's lora"),
        ({"targets": ("attn",)}, "the roles are"),
        ({"options": {"target_modules": ["nothing"]}}, "does not work"),
    ],
)
def test_invalid_settings(llama, settings, message):
    with pytest.raises(AdapterError, match=message) as error:
        attach(PeftMethod(**settings), llama)
    assert "\n" not in str(error.value)


def test_recommended_layers_that_the_method_cannot_update_are_skipped(unet):
    unet.recommended_targets = ("all",)
    attachment = PeftMethod("vera", options={"r": 8}).attach(unet)
    targets: Any = attachment.facts["targets"]
    assert targets["self-attention.query"]
    assert not any("convolution" in role for role in targets)
    attachment.detach()
    with pytest.raises(AdapterError, match="vera"):
        PeftMethod("vera", options={"r": 8}, targets=("all",)).attach(unet)


def test_options_as_json_or_mapping_are_the_same_settings():
    text = PeftMethod(options='{"target_modules": ["a", "b"], "r": 8}')
    mapping = PeftMethod(options={"r": 8, "target_modules": ("a", "b")})
    assert text == mapping
    assert mapping.options == {"r": 8, "target_modules": ["a", "b"]}
    assert RunConfig(text, TASK).identity() == RunConfig(mapping, TASK).identity()


@pytest.mark.parametrize("options", ['{"r": 8}', {"r": 8}])
def test_records_with_options_as_text_or_mapping_are_read(options):
    """Release 0.1 recorded the JSON text."""
    record = RunConfig(PeftMethod(), TASK).as_record()
    record["adapter"]["options"] = options
    config = RunConfig.from_record(json.loads(json.dumps(record)))
    assert config.adapter == PeftMethod(options={"r": 8})


def test_invalid_options_in_a_record_are_one_sentence():
    record = RunConfig(PeftMethod(), TASK).as_record()
    record["adapter"]["options"] = "r=8"
    with pytest.raises(UsageError, match="must be a JSON object"):
        RunConfig.from_record(record)


def test_options_on_the_command_line():
    words = ["peft", "e2e", "--adapter.method", "vera", "--adapter.options", '{"r": 8}']
    config, _ = parse(RunOptions, words, "python -m experiments.run")
    assert config.adapter == PeftMethod("vera", {"r": 8})


@pytest.mark.parametrize("hint", PeftMethod.name_hints.values(), ids=PeftMethod.name_hints)
def test_a_hint_for_a_name_is_a_command_that_works(hint, llama):
    command = hint.removeprefix("use `").removesuffix("`").replace("TASK", "e2e")
    config, _ = parse(RunOptions, shlex.split(command), "python -m experiments.run")
    adapter: Any = config.adapter
    assert adapter.configuration(llama, llama.projections("attention"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["hira", "e2e"], "unknown method 'hira' (use `peft TASK --adapter.method hira`)"),
        (["peft", "e2e", "--rank", "8"], """unknown option '--rank': use --adapter.options '{"r": 8}'"""),
        (["peft", "e2e", "-r", "8"], """unknown option '-r': use --adapter.options '{"r": 8}'"""),
        (["bottleneck", "e2e", "--rank", "8"], "unknown option '--rank': use --adapter.width"),
    ],
)
def test_names_and_options_of_peft_get_the_right_hint(words, sentence, capsys):
    with pytest.raises(SystemExit):
        parse(RunOptions, words, "python -m experiments.run")
    assert sentence in capsys.readouterr().err
