"""A model's structure and weights at one time, to restore after a library has changed them in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Module


class ModelSnapshot:
    """A model's modules, weights and `requires_grad` flags, to restore: peft replaces modules, and some weights too."""

    def __init__(self, model: Module):
        self.model = model
        self.children = {module: dict(module._modules) for module in model.modules()}
        self.flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self.values = {parameter: parameter.detach().clone() for parameter in model.parameters()}

    def forget_unchanged(self) -> None:
        """Drop the copies of weights that the method neither trains (`bias: all` trains biases) nor has changed."""
        self.values = {p: v for p, v in self.values.items() if not p.is_meta and (p.requires_grad or changed(p, v))}

    def restore(self) -> None:
        """Restore modules and flags, and the weights with a copy."""
        self._restore(self.children, self.values, self.flags)
        self.model.__dict__.pop("peft_config", None)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """A context in which the model has the modules and weights of the snapshot."""
        children = {module: dict(module._modules) for module in self.model.modules()}
        values = {parameter: parameter.detach().clone() for parameter in self.values}
        flags = {parameter: parameter.requires_grad for parameter in self.flags}
        config = self.model.__dict__.get("peft_config")
        self.restore()
        try:
            yield
        finally:
            self._restore(children, values, flags)
            self.model.peft_config = config

    @staticmethod
    def _restore(children: Mapping[Any, Any], values: Mapping[Any, Tensor], flags: Mapping[Any, bool]) -> None:
        import torch

        for module, modules in children.items():
            module._modules.clear()
            module._modules.update(modules)
        with torch.no_grad():
            for parameter, value in values.items():
                parameter.data = parameter.data.to(value.dtype)
                parameter.copy_(value)
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)


def changed(parameter: Tensor, before: Tensor) -> bool:
    """Whether a method has changed a weight, or stores it in another dtype to train it."""
    import torch

    return parameter.dtype != before.dtype or not torch.equal(parameter, before)
