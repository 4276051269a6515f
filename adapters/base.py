"""What every method is: an `Adapter` (its settings) that makes an `Attachment` (what it did to one model).

Importing this package imports no torch, so that a command's `--help` answers at once; methods import torch where
they use it.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone
    from adapters.mixture import Mixture

ENTRY_POINTS = "adapter_testbed.adapters"


@dataclass(frozen=True)
class Adapter(ABC):
    """One method. A subclass is a frozen dataclass whose fields are its settings and whose docstring is its help.

    `class Lora(Adapter, name="lora")` registers it; a second class of one name is an error.
    """

    name: ClassVar[str]
    size_field: ClassVar[str | None] = None  # the field that a sweep over sizes varies
    starts_as_identity: ClassVar[bool] = True  # whether the model's output is unchanged when training starts
    mergeable: ClassVar[bool] = False  # whether merge() folds the method into the model's own weights
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {},
    )  # settings that the contract tests try: {} is the defaults
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings that have a name of their own in the papers
    _registry: ClassVar[dict[str, type[Adapter]]] = {}

    init: str | None = field(default=None, kw_only=True)
    """Start from this adapter, a file or a folder: a run's own of the same settings; for lora diffusers', kohya's and
    peft's too."""

    def __init_subclass__(cls, name: str, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        known = Adapter._registry.get(name)
        # dataclass(slots=True) and reloads define a class twice in one place: that is the same method
        if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ValueError(f"two methods are called '{name}': {known.__module__} and {cls.__module__}")
        cls.name = name
        Adapter._registry[name] = cls

    @abstractmethod
    def attach(self, backbone: Backbone) -> Attachment:
        """Make `backbone.model` trainable in this way, in place.

        Raises AdapterError where the settings cannot work on this model.
        """

    @property
    def label(self) -> str:
        """What a record and a base's card call the method: its name, and what else tells it from the others."""
        return self.name

    def parameter_count(self, backbone: Backbone) -> int | None:
        """How many parameters would train, by the paper's formula from the model's dimensions; None without one."""
        return None

    def least_size(self, backbone: Backbone) -> int:
        """The smallest value of `size_field` that these settings allow on this model."""
        return 1


@cache
def registry() -> Mapping[str, type[Adapter]]:
    """All methods by name: the files of this package, then what other packages add through entry points."""
    package = importlib.import_module("adapters")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"adapters.{module.name}")
    for entry_point in entry_points(group=ENTRY_POINTS):
        entry_point.load()
    return dict(Adapter._registry)


class Attachment:
    """One adapter attached to one model: what trains, what is saved, and the way back.

    Only `owned` trains; every other parameter of the model is frozen until `detach()`. A method whose effect comes
    from hooks on the model's modules sets `handles`; most methods need nothing else. The owned parameters must be
    registered in the model's module tree (so that data parallel training finds them) under names of their own.
    """

    def __init__(
        self,
        backbone: Backbone,
        owned: Mapping[str, nn.Parameter],
        facts: Mapping[str, object] | None = None,
    ):
        if not owned:
            raise AdapterError("the adapter trains no parameter of this model: check its targets")
        self.backbone = backbone
        self.facts = dict(facts or {})  # what the record says beside the settings: layers taken, positions left
        self._owned = dict(owned)
        self._trained_before = {name: p.requires_grad for name, p in backbone.model.named_parameters()}
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(False)
        for parameter in owned.values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """What trains, by name."""
        return dict(self._owned)

    def state(self) -> dict[str, Tensor]:
        """What is saved: copies on the CPU, by name."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self._owned.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take a `state()` of the same settings. Raises AdapterError where names or shapes differ."""
        import torch

        check_state(state, self._owned)
        with torch.no_grad():
            for name, parameter in self._owned.items():
                parameter.copy_(state[name])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """A context in which the model is the base model, bit for bit."""
        raise NotImplementedError
        yield

    @contextmanager
    def mixed(self, states: Sequence[Mapping[str, Tensor]], rows: Sequence[int]) -> Iterator[None]:
        """A context in which item i of every batch uses `states[rows[i]]`, each a `state()` of the same settings.

        Raises AdapterError where the attachment is not `mixable`.
        """
        raise self.cannot_mix()
        yield

    @property
    def mixable(self) -> bool:
        """Whether the items of one batch may use different adapters of this method."""
        return False

    def cannot_mix(self) -> AdapterError:
        return AdapterError(f"{type(self).__name__} cannot serve different adapters in one batch: load one at a time")

    def merge(self) -> None:
        """Fold the method into the model's weights: the same output, no cost at inference."""
        raise AdapterError(f"{type(self).__name__} cannot be merged into the model's weights")

    def unmerge(self) -> None:
        """Undo `merge()`: the weights are those before, bit for bit."""
        raise AdapterError(f"{type(self).__name__} cannot be merged into the model's weights")

    def detach(self) -> None:
        """Give the base model back, bit for bit; this attachment is of no use afterwards."""
        raise NotImplementedError

    def begin_from(self, source: Path, adapter: Adapter) -> None:
        """Take the values of a saved adapter, a file or its folder, for the settings `adapter`."""
        from adapters.interchange.native import read_own

        self.load(read_own(source, adapter))

    def export(self, folder: Path, form: str | None = None) -> list[Path]:
        """Write a form that other tools load ("diffusers", "kohya", "peft"); the files written.

        Without `form` it is the one that the model's own library loads as it is, and nothing where there is none.
        """
        if form is not None:
            raise AdapterError(f"{type(self).__name__} has no form '{form}' that other tools load")
        return []

    def rescale(self, factor: float) -> None:
        """Multiply the method's change of the model; for good."""
        raise AdapterError(f"{type(self).__name__} has no scale: its change of the model is not a multiple of anything")

    def restore_trained_flags(self) -> None:
        """`requires_grad` of the base model's parameters as it was before attaching."""
        for name, parameter in self.backbone.model.named_parameters():
            if name in self._trained_before:
                parameter.requires_grad_(self._trained_before[name])


def attach_initialised(adapter: Adapter, backbone: Backbone) -> Attachment:
    """Attach, and begin from `adapter.init` where it is given. Raises AdapterError where that does not fit.

    A function, because the names of methods are among the names of a plugin's settings.
    """
    attachment = adapter.attach(backbone)
    if adapter.init is not None:
        try:
            attachment.begin_from(Path(adapter.init), adapter)
        except BaseException:
            attachment.detach()
            raise
        attachment.facts["init"] = adapter.init
    return attachment


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise AdapterError, in one sentence, unless names and shapes agree."""
    missing, unknown = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unknown:
        example = sorted(missing or unknown)[0]
        raise AdapterError(
            f"the saved adapter does not fit this model: {len(missing)} tensors missing, {len(unknown)} unknown "
            f"(for example '{example}'); attach the method with the settings that it was saved with"
        )
    for name, tensor in expected.items():
        if state[name].shape != tensor.shape:
            raise AdapterError(
                f"the saved adapter does not fit this model: '{name}' has shape {tuple(state[name].shape)}, "
                f"expected {tuple(tensor.shape)}"
            )


class HookedUpdate(ABC):
    """Something that changes the input or output of one module through a hook, and may be switched off.

    A plain object (no nn.Module), so that a method's file imports without torch. Its parameters are registered on
    the hooked module as `PREFIX + name`; a deep copy of the model copies hook, object and parameters together.
    """

    PREFIX = "adapter_"
    before: ClassVar[bool] = False  # whether it is called before the module's forward, and gives (args, kwargs)
    item_wise: ClassVar[bool] = False  # whether it treats each item of a batch, the first dimension, for itself

    def __init__(self, module: nn.Module, parameters: Mapping[str, nn.Parameter]):
        self.module: Any = module
        self.names = list(parameters)
        self.handle: Any = None
        self.mixture: Mixture | None = None
        self._lent: Mapping[str, Any] | None = None
        for name, parameter in parameters.items():
            module.register_parameter(self.PREFIX + name, parameter)
        self.enable()

    def enable(self) -> None:
        if self.handle is None:
            register = self.module.register_forward_pre_hook if self.before else self.module.register_forward_hook
            self.handle = register(self, with_kwargs=True)

    def disable(self) -> None:
        """Without its hook the module is as fast as before."""
        if self.handle is not None:
            self.handle.remove()
            self.handle = None

    def __getitem__(self, name: str) -> nn.Parameter:
        return getattr(self.module, self.PREFIX + name) if self._lent is None else self._lent[name]

    @contextmanager
    def lent(self, parameters: Mapping[str, Any]) -> Iterator[None]:
        """A context in which it has these parameters in the place of its own."""
        self._lent = parameters
        try:
            yield
        finally:
            self._lent = None

    def __call__(self, module: nn.Module, args: tuple, kwargs: dict, output=None):
        if self.mixture is not None:
            return self.mixture.update(self, args, kwargs, output)
        return self.update(args, kwargs, output)

    @abstractmethod
    def update(self, args: tuple, kwargs: dict, output):
        """The module's new output, from its inputs and its own output; where `before`, its new (args, kwargs)."""

    def remove(self) -> None:
        self.disable()
        for name in self.names:
            delattr(self.module, self.PREFIX + name)


Update = TypeVar("Update", bound=HookedUpdate)


class HookedAttachment(Attachment, Generic[Update]):
    """An attachment made of `HookedUpdate`s, by the name of the module that each one hooks."""

    def __init__(self, backbone: Backbone, updates: Mapping[str, Update], facts: Mapping | None = None):
        self.updates = dict(updates)
        owned = {f"{name}.{own}": update[own] for name, update in updates.items() for own in update.names}
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

    @property
    def mixable(self) -> bool:
        return all(update.item_wise for update in self.updates.values())

    @contextmanager
    def mixed(self, states: Sequence[Mapping[str, Tensor]], rows: Sequence[int]) -> Iterator[None]:
        from adapters.mixture import Mixture, items_of

        if not self.mixable:
            raise self.cannot_mix()
        if any(update.handle is None for update in self.updates.values()):
            raise AdapterError("a merged or disabled adapter cannot serve others: call unmerge() first")
        for state in states:
            check_state(state, self._owned)
        example = next(iter(self._owned.values()))
        items = items_of(rows, len(states), example.device)
        for name, update in self.updates.items():
            parameters = [{own: state[f"{name}.{own}"].to(update[own]) for own in update.names} for state in states]
            update.mixture = Mixture(parameters, items)
        try:
            yield
        finally:
            for update in self.updates.values():
                update.mixture = None

    def detach(self) -> None:
        for update in self.updates.values():
            update.remove()
        self.restore_trained_flags()


class MergeableAttachment(HookedAttachment[Update]):
    """Hooks whose effect is a change of the model's weights; merged, it is in the weights and the hooks are off."""

    def __init__(self, backbone: Backbone, updates: Mapping[str, Update], facts: Mapping | None = None):
        self._kept: dict[nn.Parameter, Tensor] = {}  # merged weights as they were
        super().__init__(backbone, updates, facts)

    @abstractmethod
    def changes(self) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Weights and what is added to each, in its own shape; one weight may come several times."""

    def merge(self) -> None:
        import torch

        if self._kept:
            return
        with torch.no_grad():
            for weight, change in self.changes():
                if weight not in self._kept:
                    self._kept[weight] = weight.detach().clone()
                weight += change
        for update in self.updates.values():
            update.disable()

    def unmerge(self) -> None:
        import torch

        with torch.no_grad():
            for weight, before in self._kept.items():
                weight.copy_(before)
        self._kept.clear()
        for update in self.updates.values():
            update.enable()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        merged = bool(self._kept)
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
