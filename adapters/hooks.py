"""Methods made of forward hooks: an update per hooked module, and the attachment that switches them together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from adapters.base import Attachment
from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone


class HookedUpdate(ABC):
    """A change to the input or output of one module, applied by a hook that can be switched off.

    A plain object, not an nn.Module, so that a method's file imports without torch. Its parameters are registered on
    the hooked module under `PREFIX + name`; a deep copy of the model copies hook, object and parameters together.
    """

    PREFIX = "adapter_"
    before: ClassVar[bool] = False  # whether it runs before the module's forward and returns (args, kwargs)
    item_wise: ClassVar[bool] = False  # whether it treats the items of a batch (first dimension) independently

    def __init__(self, module: nn.Module, parameters: Mapping[str, nn.Parameter]):
        self.module: Any = module
        self.names = list(parameters)
        self.handle: Any = None
        for name, parameter in parameters.items():
            module.register_parameter(self.PREFIX + name, parameter)
        self.enable()

    def __getitem__(self, name: str) -> nn.Parameter:
        """The parameter called `name`."""
        return getattr(self.module, self.PREFIX + name)

    def cast(self, name: str, like: Tensor) -> Tensor:
        """The parameter called `name` in the dtype in which the model computes, that of `like`."""
        return self[name].to(like.dtype)

    @abstractmethod
    def update(self, args: tuple, kwargs: dict, output):
        """The module's new output, given its inputs and its own output; if `before`, its new (args, kwargs)."""

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, output=None):
        return self.update(args, kwargs, output)

    def register(self, hook: Callable) -> Any:
        """Register a hook on the module, before or after its forward as this update needs it; returns the handle."""
        register = self.module.register_forward_pre_hook if self.before else self.module.register_forward_hook
        return register(hook, with_kwargs=True)

    def enable(self) -> None:
        if self.handle is None:
            self.handle = self.register(self)

    def disable(self) -> None:
        """Remove the hook: the module is then as fast as in the base model."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None

    def remove(self) -> None:
        """Remove hook and parameters."""
        self.disable()
        for name in self.names:
            delattr(self.module, self.PREFIX + name)


Update = TypeVar("Update", bound=HookedUpdate)


class HookedAttachment(Attachment, Generic[Update]):
    """An attachment made of updates, by name (usually that of the hooked module)."""

    def __init__(self, backbone: Backbone, updates: Mapping[str, Update], facts: Mapping | None = None):
        self.updates = dict(updates)
        owned = {
            f"{name}.{parameter}": update[parameter] for name, update in updates.items() for parameter in update.names
        }
        super().__init__(backbone, owned, facts)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        for update in self.updates.values():
            update.disable()
        try:
            yield
        finally:
            for update in self.updates.values():
                update.enable()

    def detach(self) -> None:
        for update in self.updates.values():
            update.remove()
        self.restore_requires_grad()


class MergeableAttachment(HookedAttachment[Update]):
    """Hooks equivalent to a change of the model's weights; after `merge()` the weights change and the hooks are off."""

    def __init__(self, backbone: Backbone, updates: Mapping[str, Update], facts: Mapping | None = None):
        self._unmerged: dict[nn.Parameter, Tensor] = {}  # copies of the weights before merge()
        super().__init__(backbone, updates, facts)

    @abstractmethod
    def changes(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Pairs of a weight and what to add to it, in the weight's shape; a weight may occur several times."""

    def merge(self) -> None:
        """Add the changes to the weights; in weights of 16 bits the sum is rounded once."""
        import torch

        if self._unmerged:
            return
        with torch.no_grad():
            for weight, change in self.changes():
                if not weight.is_floating_point():
                    raise AdapterError(
                        "an adapter cannot be merged into quantised weights: attach it to the base in fp32"
                    )
                if weight not in self._unmerged:
                    self._unmerged[weight] = weight.detach().clone()
                weight += change
        for update in self.updates.values():
            update.disable()

    def unmerge(self) -> None:
        import torch

        with torch.no_grad():
            for weight, before in self._unmerged.items():
                weight.copy_(before)
        self._unmerged.clear()
        for update in self.updates.values():
            update.enable()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        merged = bool(self._unmerged)
        self.unmerge()
        try:
            with super().disabled():
                yield
        finally:
            if merged:
                self.merge()

    def detach(self) -> None:
        self.unmerge()
        super().detach()


def trained_like(module: nn.Module) -> dict[str, Any]:
    """dtype and device of what trains beside a module's weights, as keyword arguments of torch's constructors.

    At least fp32, whatever the frozen weights are stored in: a step of 1e-4 of a number is lost in 16 bits.
    """
    import torch

    weight = next(module.parameters())
    return {"dtype": torch.promote_types(weight.dtype, torch.float32), "device": weight.device}
