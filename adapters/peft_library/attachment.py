"""One method of peft attached to one model: its state, its export, and undoing it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy, deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.backbone import count_roles
from adapters.base import Adapter, Attachment, check_state, settings_of
from adapters.errors import AdapterError
from adapters.peft_library.changed_base import ChangedBase
from adapters.peft_library.merging import merged_parameters, set_parameters
from adapters.peft_library.model_snapshot import ModelSnapshot
from adapters.peft_library.seeds import peft_seeds

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone
    from adapters.interchange.exported_file import ExportedFile


class PeftAttachment(Attachment):
    """One method of peft on one model.

    `seeds` are those of the configuration's options that the run's seed has set. They are part of the state, because
    peft does not save all that they determine (fourierft's locations, for example).
    """

    def __init__(self, backbone: Backbone, config: Any, seeds: Mapping[str, int | None]):
        self.config, self.seeds = config, dict(seeds)
        self.base, projections = ModelSnapshot(backbone.model), backbone.all_projections()
        self.wrapped = wrapped = wrap(backbone, deepcopy(config))
        owned = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
        targeted = set(getattr(wrapped.base_model, "targeted_module_names", ()))  # adaption_prompt has none
        targets = count_roles(p for p in projections if p.name in targeted)
        facts = {"peft_type": str(wrapped.peft_type.value), "targets": targets}
        super().__init__(backbone, owned, facts | ({"seeds": self.seeds} if seeds else {}))
        self.base.forget_unchanged()
        self.changed = ChangedBase(wrapped, self.base)

    def reseed(self, seeds: Mapping[str, int | None]) -> None:
        """Attach again with these values of `seeds`; the parameters are then other ones, with new initial values."""
        if seeds != self.seeds:
            self.base.restore()
            PeftAttachment.__init__(self, self.backbone, replace(self.config, **seeds), seeds)

    def state(self) -> dict[str, Tensor]:
        return self._peft_state() | self.changed.state() | self._seed_state()

    def _seed_state(self) -> dict[str, Tensor]:
        import torch

        return {name: torch.tensor(seed) for name, seed in self.seeds.items() if seed is not None}

    def _peft_state(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        state: dict[str, Tensor] = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state()`. One of release 0.1 has no changed weights, and those drawn at attaching stay; nor has it
        seeds, which were peft's own values then."""
        from peft import set_peft_model_state_dict

        own, changed = self._peft_state(), self.changed.state()
        of_changed = {name: tensor for name, tensor in state.items() if name in changed}
        seeds = {name: tensor for name, tensor in self._seed_state().items() if name in state}
        check_state(state, own | seeds | (changed if of_changed else {}))
        defaults = peft_seeds(self.wrapped.peft_type.value)
        self.reseed({name: int(state[name]) if name in seeds else defaults[name] for name in self.seeds})
        if of_changed:
            self.changed.load(of_changed)
        set_peft_model_state_dict(self.wrapped, {name: tensor for name, tensor in state.items() if name in own})

    def initialise_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.peft_folder import read_state

        changes_base = bool(self.changed.layers)
        config = self.wrapped.active_peft_config
        self.load(read_state(source, config, settings_of(adapter), changes_base, self.seeds))

    def export(self, format: str | None = None) -> list[ExportedFile]:
        from adapters.interchange.peft_folder import files

        if format not in (None, "peft"):
            raise AdapterError(f"methods of peft have no format '{format}': choose peft")
        config, state = copy(self.wrapped.active_peft_config), self.state()
        config.inference_mode = True
        if self.changed.layers:
            if not self.changed.is_low_rank:
                if format is None:
                    return []
                raise AdapterError(
                    f"init_lora_weights '{config.init_lora_weights}' quantises the base's weights, which no format of "
                    "peft expresses: choose another initialisation"
                )
            config, state = self.changed.converted(config, state)
        return files(config, state)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        with self.base.restored():
            yield

    @contextmanager
    def merged(self) -> Iterator[None]:
        """peft's own merge of each layer; what it cannot express in the base's parameters is an AdapterError."""
        merged = merged_parameters(self)
        originals = {parameter: parameter.detach().clone() for parameter in merged}
        with self.base.restored():
            set_parameters(merged)
            try:
                yield
            finally:
                set_parameters(originals)

    def detach(self) -> None:
        self.base.restore()


def wrap(backbone: Backbone, config: Any) -> Any:
    """peft's model around this one, whose layers it replaces in place; its forward runs once."""
    import torch
    from peft import get_peft_model

    training = backbone.model.training
    with warnings.catch_warnings():  # peft uses a name that transformers has deprecated
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(backbone.model, config, autocast_adapter_dtype=False)
    stored = train_in_fp32(backbone.model)
    inputs = {
        name: tensor.to(stored.device, stored.dtype if tensor.is_floating_point() else None)
        for name, tensor in backbone.example_input(torch.Generator().manual_seed(0)).items()
    }
    with torch.no_grad(), autocast(stored):
        backbone.model.eval()(**inputs)
    backbone.model.train(training)
    return wrapped


def train_in_fp32(model: Any) -> Tensor:
    """Store everything that trains in fp32; returns the first weight that does not train, in the base's dtype."""
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
    parameters = [p for p in model.parameters() if p.is_floating_point()]
    return next((p for p in parameters if not p.requires_grad), parameters[0])


def autocast(stored: Tensor) -> AbstractContextManager[Any]:
    """Autocast in the dtype of weights of 16 bits, as in training: what a method adds to them is in fp32."""
    import torch

    if stored.dtype not in (torch.bfloat16, torch.float16) or not torch.amp.is_autocast_available(stored.device.type):
        return nullcontext()
    return torch.autocast(stored.device.type, stored.dtype)
