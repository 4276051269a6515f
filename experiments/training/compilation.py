"""torch.compile of the model's blocks while it trains, which is quicker to compile than the whole model."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from typing import Any

import torch

from adapters.backbone import Backbone
from experiments.errors import UsageError

BACKEND = "inductor"
VARIANTS = 16  # compiled for each block: lengths of texts, and whether gradients are recorded


class CompiledBlocks:
    """The blocks of a backbone with the adapter that is attached, compiled at their first call while `active`.

    A method's hooks are compiled with their block, so hooks must not change meanwhile. Without a backbone nothing is
    compiled.
    """

    def __init__(self, backbone: Backbone | None):
        self.on = False
        modules = [] if backbone is None else [block.module for block in backbone.blocks()]
        self.calls: dict[Any, Any] = {module: torch.compile(module._call_impl, backend=BACKEND) for module in modules}

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """A context in which calls of the blocks are compiled ones."""
        if not self.calls:
            yield
            return
        limit = VARIANTS * len(self.calls)  # all blocks are calls of one function
        options = {"recompile_limit": limit, "accumulated_recompile_limit": limit, "skip_nnmodule_hook_guards": False}
        with torch._dynamo.config.patch(options):
            self._switch(True)
            try:
                yield
            finally:
                self._switch(False)

    @contextlib.contextmanager
    def inactive(self) -> Iterator[None]:
        """Within `active`, a context in which the blocks run as they are: shapes differ there, for few calls each."""
        before = self.on
        self._switch(False)
        try:
            yield
        finally:
            self._switch(before)

    def _switch(self, on: bool) -> None:
        self.on = on
        for module, call in self.calls.items():
            module._compiled_call_impl = call if on else None  # as torch.nn.Module.compile sets it


def check_compiler(device: torch.device) -> None:
    """Raise UsageError if torch.compile lacks what it generates code with: Triton on CUDA, and a C++ compiler."""
    from torch._inductor.cpp_builder import get_cpp_compiler
    from torch._inductor.exc import InvalidCxxCompiler

    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UsageError("--train.compile needs triton on CUDA, which is not installed: pip install triton")
    try:
        compiler = get_cpp_compiler()
    except InvalidCxxCompiler:
        compiler = None
    if compiler is None or shutil.which(compiler) is None:
        raise UsageError(
            "--train.compile needs a C++ compiler, and there is none: install g++, or name one in the variable CXX"
        )
