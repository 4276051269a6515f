"""The names that people type for methods of peft: what they resolve to, in commands, records and Python."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch

from adapters import Dora, Lora, PeftMethod, Pissa, RsLora
from adapters.base import adapter_registry, attach, method_names
from adapters.errors import AdapterError
from experiments.cli.overrides import Overrides
from experiments.cli.parser import parse
from experiments.config import RunConfig
from experiments.run import RunOptions
from experiments.sweep import SweepOptions, configurations
from tasks.base import task_registry
from tests.contract import tiny
from tests.contract.tiny import output

TASK = task_registry()["e2e"]()
PROGRAM = "python -m experiments.run"
RESOLVED: dict[str, Any] = {
    "dora": PeftMethod("lora", {"r": 8, "lora_alpha": 16.0, "use_dora": True}),
    "rslora": Lora(use_rslora=True),
    "pissa": PeftMethod("lora", {"r": 8, "lora_alpha": 16.0, "init_lora_weights": "pissa"}),
    "adalora": PeftMethod("adalora", {"target_r": 8, "init_r": 12, "lora_alpha": 16.0}),
    "vera": PeftMethod("vera", {"r": 256}),
    "ia3": PeftMethod("ia3"),
    "loha": PeftMethod("loha", {"r": 8}),
    "lokr": PeftMethod("lokr", {"r": 8}),
}


def configured(*words: str) -> RunConfig:
    return parse(RunOptions, list(words), PROGRAM)[0]


@pytest.mark.parametrize(("name", "adapter"), RESOLVED.items())
def test_a_name_is_recorded_as_the_method_that_it_is(name, adapter):
    config = configured(name, "e2e")
    assert config.adapter == adapter
    assert type(config.adapter) is type(adapter)
    assert config.as_record()["adapter"]["name"] == adapter.name
    assert RunConfig.from_record(config.as_record()) == config
    assert config.identity() == RunConfig(adapter, TASK).identity()


@pytest.mark.parametrize(("rank", "first"), [(1, 2), (4, 6), (5, 8), (64, 96)])
def test_adalora_starts_at_one_and_a_half_times_its_rank(rank, first):
    options = {"target_r": rank, "init_r": first, "lora_alpha": 16.0}
    assert configured("adalora", "e2e", "--rank", str(rank)).adapter == PeftMethod("adalora", options)


def test_a_new_process_knows_the_names():
    """Without `from adapters import Dora`, which this file has."""
    command = "from adapters.base import method_names; print(*method_names())"
    names = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True).stdout.split()
    assert RESOLVED.keys() <= set(names)


def test_all_presets_are_covered():
    assert {name for name, cls in method_names().items() if cls.preset_of} == RESOLVED.keys()
    assert not RESOLVED.keys() & adapter_registry().keys()


def test_settings_and_further_options():
    config = configured("dora", "e2e", "--rank", "4", "--adapter.options", '{"bias": "all"}')
    assert config.adapter == PeftMethod("lora", {"r": 4, "lora_alpha": 16.0, "use_dora": True, "bias": "all"})
    with pytest.raises(AdapterError, match=r"give r as --adapter\.rank"):
        RunConfig(Dora(options={"r": 4}), TASK)
    with pytest.raises(AdapterError, match="dora needs use_dora true, not false: for that use `peft TASK"):
        RunConfig(Dora(options={"use_dora": False}), TASK)
    fast = {"init_lora_weights": "pissa_niter_4"}
    assert Pissa(options=fast).resolved().given["init_lora_weights"] == "pissa_niter_4"
    with pytest.raises(AdapterError, match=r"--adapter\.rank must be at least 1"):
        RunConfig(Dora(rank=0), TASK)


def test_a_sweep_takes_the_names_with_sizes_and_settings():
    options = SweepOptions(methods=("lora", "dora", "ia3"), sizes=(1, 4), seeds=(0,), set=("dora.alpha=8",))
    adapters = [config.adapter for config in configurations(Overrides("e2e"), options)]
    dora: Any = [PeftMethod("lora", {"r": rank, "lora_alpha": 8.0, "use_dora": True}) for rank in (1, 4)]
    assert adapters == [Lora(rank=1), Lora(rank=4), *dora, PeftMethod("ia3")]


@pytest.mark.parametrize("name", RESOLVED)
def test_help_says_what_a_name_is(name, capsys):
    with pytest.raises(SystemExit):
        parse(RunOptions, [name, "e2e", "--help"], PROGRAM)
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert f"`{RESOLVED[name].name}`" in text
    assert "recorded as that" in text


def test_help_lists_the_names(capsys):
    with pytest.raises(SystemExit):
        parse(RunOptions, ["--help"], PROGRAM)
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in RESOLVED)


def test_rslora_is_pefts(llama):
    """The same scale from the same settings, against peft's own LoraConfig."""
    theirs: Any = attach(PeftMethod("lora", {"r": 9, "lora_alpha": 6, "use_rslora": True}), copy.deepcopy(llama))
    scale = next(m.scaling["default"] for m in theirs.wrapped.modules() if hasattr(m, "lora_A"))
    assert RsLora(rank=9, alpha=6).resolved().scaling(9) == pytest.approx(scale)


def test_a_preset_attaches_without_a_run():
    first, second = (copy.deepcopy(tiny.built("llama")) for _ in range(2))
    for adapter, backbone in ((Dora(rank=2), first), (Dora(rank=2).resolved(), second)):
        attachment = attach(adapter, backbone, seed=0)
        with torch.no_grad():
            for parameter in attachment.parameters().values():
                parameter.add_(0.1)
    assert torch.equal(output(first), output(second))
