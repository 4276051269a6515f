"""Compiled blocks of every method compute what the blocks themselves compute. Another backend stands in for the code
generator, which needs minutes and a C++ compiler; one slow test uses that."""

import copy
from dataclasses import replace

import pytest
import torch

from adapters.base import adapter_registry
from adapters.lora import Lora
from experiments.config import ResolvedTrain
from experiments.errors import UsageError
from experiments.training import compilation
from experiments.training.compilation import CompiledBlocks, check_compiler
from tests.contract import tiny
from tests.experiments.tiny_task import PreparedTiny, Tiny
from tests.experiments.training.test_readings import lines, trainer_of

METHODS = {name: cls(**cls.examples[0]) for name, cls in adapter_registry().items()}
QUICK = ("full", "lora", "prefix")  # the others take a minute together: the nightly job


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(compilation, "BACKEND", "eager")
    yield
    torch._dynamo.reset()


def gradients(backbone, attachment):
    backbone.model.zero_grad()
    torch.manual_seed(0)
    loss = tiny.loss(backbone)
    loss.backward()
    return {"loss": loss.detach()} | {name: p.grad.clone() for name, p in attachment.parameters().items()}


@pytest.mark.parametrize("kind", ["gpt2", "unet"])
@pytest.mark.parametrize("method", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in METHODS])
def test_every_method_trains_the_same(method, kind, quick):
    backbone = copy.deepcopy(tiny.built(kind))
    before = tiny.output(backbone)
    torch.manual_seed(0)
    attachment = METHODS[method].attach(backbone)
    with torch.no_grad():
        for number, parameter in enumerate(attachment.parameters().values()):  # each block its own
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number)))
    backbone.model.train()
    blocks = CompiledBlocks(backbone)
    for checkpointing in (False, True):
        backbone.set_gradient_checkpointing(checkpointing)
        expected = gradients(backbone, attachment)
        with blocks.active():
            compiled = gradients(backbone, attachment)
        for name, gradient in expected.items():
            torch.testing.assert_close(compiled[name], gradient, atol=1e-5, rtol=1e-4)
    backbone.set_gradient_checkpointing(False)
    backbone.model.eval()
    attachment.detach()
    assert torch.equal(tiny.output(backbone), before)


def test_a_training_compiles_its_blocks_and_validates_without(quick, tmp_path, monkeypatch):
    from torch._dynamo.utils import counters

    results = []
    for compile in (False, True):
        folder = tmp_path / str(compile)
        folder.mkdir()
        counters.clear()
        settings = ResolvedTrain(
            steps=4, batch_size=2, learning_rate=0.01, device="cpu", validation_steps=2, compile=compile
        )
        trainer_of(folder, settings, as_on_gpu=False, adapter=Lora(rank=2)).run()
        results.append(lines(folder))
        assert (counters["stats"]["unique_graphs"] > 0) == compile
    for plain, compiled in zip(*results, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-4)


def test_without_a_compiler_there_is_one_sentence(monkeypatch):
    monkeypatch.setattr("torch._inductor.cpp_builder.get_cpp_compiler", lambda: "no-such-compiler")
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler, and there is none: install g\+\+"):
        check_compiler(torch.device("cpu"))


@pytest.mark.slow
def test_generated_code_trains_the_same(tmp_path):
    try:
        check_compiler(torch.device("cpu"))
    except UsageError as missing:
        pytest.skip(str(missing))
    results = []
    for compile in (False, True):
        folder = tmp_path / str(compile)
        folder.mkdir()
        settings = ResolvedTrain(steps=4, batch_size=2, learning_rate=0.01, device="cpu", validation_steps=2)
        trainer_of(folder, replace(settings, compile=compile), as_on_gpu=False, prepared=PreparedTiny(Tiny())).run()
        results.append(lines(folder))
    for plain, compiled in zip(*results, strict=True):
        assert compiled == pytest.approx(plain, rel=1e-3)
