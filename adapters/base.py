"""The two types behind every method: an `Adapter` holds its settings, an `Attachment` is that adapter on one model.

Modules in this package import torch inside functions only, so that `--help` and notebooks start quickly.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.bounds import violations
from adapters.errors import AdapterError
from adapters.plugins import load_plugins

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone, Projection
    from adapters.interchange.exported_file import ExportedFile

ENTRY_POINTS = "adapter_testbed.adapters"


@dataclass(frozen=True)
class Adapter(ABC):
    """One method. A subclass is a frozen dataclass: its fields are the settings, its docstring is the help page.

    `class Lora(Adapter, name="lora")` registers the method. Two classes with the same name are an error.
    """

    name: ClassVar[str]
    size_field: ClassVar[str | None] = None  # the field that a sweep over sizes varies
    size_counts_parameters: ClassVar[bool] = False  # whether the size is the number of trained parameters
    rate_exponent: ClassVar[float] = 0.0  # an untuned learning rate falls with this power of the size
    starts_as_identity: ClassVar[bool] = True  # whether attaching leaves the model's output unchanged
    mergeable: ClassVar[bool] = False  # whether merge() folds the method into the model's own weights
    may_merge: ClassVar[bool] = False  # whether `Attachment.merged` may work without `mergeable`: known once attached
    trains_base: ClassVar[bool] = False  # whether the model's own weights train: they are then stored in fp32
    examples: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)  # settings that the contract tests cover
    first_defaults: ClassVar[Mapping[str, Any]] = {}  # of settings whose default has changed since their release
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings with a name in the papers: {"DID": {...}}
    preset_of: ClassVar[str | None] = None  # the method that this name stands for, with settings: see `resolved`
    other_names: ClassVar[tuple[str, ...]] = ()  # lower-case names that people type for this method
    name_hints: ClassVar[Mapping[str, str]] = {}  # a lower-case name that needs settings too -> what to type instead
    option_hints: ClassVar[Mapping[str, str]] = {}  # a setting that people look for here -> what to use instead
    formats: ClassVar[tuple[str, ...] | None] = None  # that some model has; None: known only after attaching
    _registry: ClassVar[dict[str, type[Adapter]]] = {}

    init: str | None = field(default=None, kw_only=True)
    """Start from this adapter file or folder. Every method reads what a run with the same settings saved; lora also
    reads plain LoRA files of diffusers, kohya, OneTrainer, ComfyUI, LyCORIS and peft, prefix and peft also folders of
    peft."""

    def __init_subclass__(cls, name: str | None, **kwargs) -> None:
        """Register the method, unless `name` is None: a base class of several methods."""
        super().__init_subclass__(**kwargs)
        if name is None:
            return
        registered = Adapter._registry.get(name)
        # dataclass(slots=True) and module reloads define the same class twice
        if registered is not None and (registered.__module__, registered.__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise ValueError(f"two methods are called '{name}': {registered.__module__} and {cls.__module__}")
        cls.name = name
        Adapter._registry[name] = cls

    @abstractmethod
    def attach(self, backbone: Backbone) -> Attachment:
        """Make `backbone.model` trainable with this method, in place.

        Raises AdapterError if the settings cannot work on this model. The function `attach` checks the settings first.
        """

    def resolved(self) -> Adapter:
        """The method that a run attaches and records; another one only for a preset. Raises AdapterError."""
        return self

    def check_settings(self) -> None:
        """Raise AdapterError for settings that cannot work on any model: all that can be checked before loading one.

        Numbers have their bounds where they are declared (`adapters.bounds.bounded`). A method that checks more
        extends this.
        """
        if wrong := violations(self, "adapter"):
            raise AdapterError(wrong)
        if self.init is not None:
            from adapters.interchange.content import check_file

            check_file(Path(self.init))

    def check_steps(self, steps: int) -> None:  # noqa: B027  (most methods do not depend on the length)
        """Raise AdapterError for settings that cannot work in a training of this many steps (at least 1)."""

    def init_digest(self) -> str | None:
        """SHA-256 of the content of `init`; None without it. Raises AdapterError if it cannot be read."""
        from adapters.interchange.content import content_digest

        return None if self.init is None else content_digest(Path(self.init))

    @property
    def positions_taken(self) -> int:
        """Number of a language model's positions that the method takes from its input."""
        return 0

    @property
    def label(self) -> str:
        """The method's name in records and in a base's card, including the settings that name a variant."""
        return self.name

    def parameter_count(self, backbone: Backbone) -> int | None:
        """Number of trainable parameters by the paper's formula, from the model's dimensions; None without one."""
        return None

    def least_size(self, backbone: Backbone) -> int:
        """The smallest valid value of `size_field` on this model, with the other settings as given."""
        return 1


def settings_of(adapter: Adapter) -> dict[str, Any]:
    """The method's name and its settings, as in a record.

    A function, because a method's name would hide a plugin's setting of the same name.
    """
    return {"name": adapter.name} | asdict(adapter)


def adapter_registry() -> Mapping[str, type[Adapter]]:
    """All methods by name: the modules of this package, then the entry points of other packages."""
    return {name: cls for name, cls in method_names().items() if cls.preset_of is None}


def method_names() -> Mapping[str, type[Adapter]]:
    """All names that a user can type: methods, and presets (`dora`) that stand for a method with settings."""
    _load_methods()
    return dict(Adapter._registry)


@cache
def _load_methods() -> None:
    """Import all modules of this folder, and no others: a method is one of them."""
    package = importlib.import_module("adapters")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"adapters.{module.name}")
    load_plugins(ENTRY_POINTS, "method", Adapter._registry)


class Attachment(ABC):
    """One adapter attached to one model: what trains, how to save and load it, how to undo it.

    Only the `owned` parameters train; all other parameters of the model are frozen until `detach()`. They must be
    registered in the model's module tree (data-parallel training looks for them there), under names that the model
    does not use. Most methods are hooks on modules: see `adapters.hooks`.
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
        self.facts = dict(facts or {})  # what the record adds to the settings: adapted layers, positions left
        self._owned = dict(owned)
        self._requires_grad = {name: p.requires_grad for name, p in backbone.model.named_parameters()}
        for parameter in backbone.model.parameters():
            parameter.requires_grad_(False)
        for parameter in owned.values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """The trainable parameters by name."""
        return dict(self._owned)

    def state(self) -> dict[str, Tensor]:
        """The tensors to save, by name: copies on the CPU."""
        return {name: p.detach().to("cpu", copy=True).contiguous() for name, p in self._owned.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state()` saved with the same settings. Raises AdapterError if names or shapes differ."""
        import torch

        check_state(state, self._owned)
        with torch.no_grad():
            for name, parameter in self._owned.items():
                parameter.copy_(state[name])

    @abstractmethod
    @contextmanager
    def disabled(self) -> Iterator[None]:
        """A context in which the model is the base model, bit for bit."""
        yield

    def regularization(self) -> Tensor | None:
        """A term that the method adds to the loss of every batch; None without one."""
        return None

    def after_step(self, step: int, steps: int, finite: Tensor) -> None:
        """Called after optimizer step `step` (from 1) of `steps`, while the parameters still have its gradients.

        `finite`, a bool on the device, is false for a step that changed no weight because its loss or gradient was not
        finite. Reading it, or any other number on a GPU, would wait for all steps that are queued.
        """
        return

    def training_state(self) -> dict[str, Tensor]:
        """What `after_step` keeps from step to step, by name: a run that resumes needs it."""
        return {}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore a `training_state()`."""
        return

    def merge(self) -> None:
        """Fold the method into the model's weights: the same output, with no cost at inference."""
        raise AdapterError(f"{type(self).__name__} cannot be merged into the model's weights")

    def unmerge(self) -> None:
        """Undo `merge()`: the weights are those before it, bit for bit."""
        raise AdapterError(f"{type(self).__name__} cannot be merged into the model's weights")

    @contextmanager
    def merged(self) -> Iterator[None]:
        """A context in which the model has its own modules, with the method in their weights; restored bit for bit.

        Raises AdapterError for a method that is not a change of weights.
        """
        self.merge()
        try:
            yield
        finally:
            self.unmerge()

    @abstractmethod
    def detach(self) -> None:
        """Restore the base model, bit for bit. The attachment cannot be used afterwards."""

    def initialise_from(self, source: Path, adapter: Adapter) -> None:
        """Load a saved adapter (a file or its folder); `adapter` holds the settings that it has to fit."""
        from adapters.interchange.native import read_native

        self.load(read_native(source, settings_of(adapter)))

    def export(self, format: str | None = None) -> list[ExportedFile]:
        """The adapter as files of another tool: "diffusers", "kohya" or "peft". Nothing is written to disk.

        By default the format that the model's own library loads, and an empty list if there is none. Raises
        AdapterError for a format that this method does not have.
        """
        if format is not None:
            raise AdapterError(f"{type(self).__name__} has no format '{format}': only runs of this testbed load it")
        return []

    def rescale(self, factor: float) -> None:
        """Multiply the method's effect on the model by `factor`, permanently."""
        raise AdapterError(f"{type(self).__name__} cannot be rescaled: its effect is not proportional to anything")

    def restore_requires_grad(self) -> None:
        """Restore `requires_grad` of the base model's parameters."""
        for name, parameter in self.backbone.model.named_parameters():
            if name in self._requires_grad:
                parameter.requires_grad_(self._requires_grad[name])


def attach(adapter: Adapter, backbone: Backbone, seed: int | None = None) -> Attachment:
    """Attach the adapter and load `adapter.init` if it is set. Raises AdapterError if either cannot work.

    `seed` sets every generator first (Python's and numpy's too: another package's method may use them), so that what
    the method draws and does not save can be drawn again. The backbone is unchanged after an error.
    """
    adapter.check_settings()
    if seed is not None:
        from accelerate.utils import set_seed

        set_seed(seed)
    attachment = adapter.attach(backbone)
    if adapter.init is not None:
        try:
            attachment.initialise_from(Path(adapter.init), adapter)
        except BaseException:
            attachment.detach()
            raise
        attachment.facts["init"] = adapter.init
    return attachment


def projections_of(backbone: Backbone, option: str, roles: Iterable[str]) -> list[Projection]:
    """The projections with the roles that `option` names. Raises AdapterError for one that the model does not have."""
    try:
        return backbone.projections(*roles)
    except LookupError as unknown:
        raise AdapterError(f"{option}: {unknown.args[0]}") from None


def check_state(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise AdapterError unless names and shapes agree."""
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
