"""Any method of the peft library, by its name and options."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from adapters.backbone import count_roles
from adapters.base import Adapter, Attachment, check_state, projections_of, settings_of
from adapters.errors import AdapterError, ForeignMethodError, first_line
from adapters.peft_library.changed_base import ChangedBase
from adapters.peft_library.model_snapshot import ModelSnapshot
from adapters.peft_library.options import configure, option_names, parse_options

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone, Module, Projection
    from adapters.interchange.exported_file import ExportedFile

TYPED_AS_METHODS = ("boft", "fourierft", "hira", "ia3", "ln_tuning", "loha", "lokr", "oft", "randlora", "vera")


def _as_option(**options: object) -> str:
    """The hint for an option of peft's configuration class."""
    return f"use --adapter.options '{json.dumps(options)}'"


def _by_method(method: str, **options: object) -> str:
    """The hint for the name of one of peft's methods."""
    given = f" --adapter.options '{json.dumps(options)}'" if options else ""
    return f"use `peft TASK --adapter.method {method}{given}`"


@dataclass(frozen=True)
class PeftMethod(Adapter, name="peft"):
    """A method of the peft library: lora, vera, ia3, hira, randlora, fourierft, loha, boft, ln_tuning and others
    (Mangrulkar et al. 2022, github.com/huggingface/peft; its documentation names each method's paper)."""

    formats = ("peft",)
    name_hints: ClassVar[Mapping[str, str]] = {name: _by_method(name) for name in TYPED_AS_METHODS} | {
        "ln-tuning": _by_method("ln_tuning"),
        "dora": _by_method("lora", r=8, use_dora=True),
        "pissa": _by_method("lora", r=8, init_lora_weights="pissa"),
    }
    option_hints: ClassVar[Mapping[str, str]] = (
        dict.fromkeys(("r", "rank", "lora_r", "lora_rank"), _as_option(r=8))
        | dict.fromkeys(("alpha", "lora_alpha"), _as_option(lora_alpha=16))
        | dict.fromkeys(("dropout", "lora_dropout"), _as_option(lora_dropout=0.1))
        | {"use_dora": _as_option(use_dora=True), "modules_to_save": _as_option(modules_to_save=["lm_head"])}
    )
    examples = ({}, {"method": "vera", "options": {"r": 8}}, {"method": "ia3", "targets": ("linear",)})

    method: str = "lora"
    """peft's name for the method."""
    options: str | dict[str, Any] = field(default_factory=dict)
    """Settings of peft's configuration class: JSON such as '{"r": 8}' on the command line, a dict in Python."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers, as for lora, unless the options set target_modules; ln_tuning always takes the norms."""

    def __post_init__(self) -> None:
        """Store the options in one form, whichever way they were written: the fingerprint is then the same."""
        object.__setattr__(self, "options", parse_options(self.options))

    @property
    def given(self) -> dict[str, Any]:
        """The options as they are stored."""
        return cast(dict[str, Any], self.options)

    def check_settings(self) -> None:
        super().check_settings()
        layers = {"target_modules", "feedforward_modules"} & option_names(self.method)
        configure(self.method, self.given, {key: ["layer"] for key in layers})

    def attach(self, backbone: Backbone) -> PeftAttachment:
        """Attach to the targets. Recommended layers that the method cannot update (convolutions) are left out."""
        chosen = projections_of(backbone, "--adapter.targets", self.targets)
        try:
            return self.attach_to(backbone, chosen)
        except AdapterError:
            matrices = [p for p in chosen if p.module.weight.ndim == 2]
            if self.targets != ("auto",) or len(matrices) in (0, len(chosen)):
                raise
            return self.attach_to(backbone, matrices)

    @property
    def label(self) -> str:
        return f"{self.name} {self.method}"

    def attach_to(self, backbone: Backbone, chosen: list[Projection]) -> PeftAttachment:
        """Attach to these layers, unless the options name others; runs the model once to see that it works."""
        config = self.configuration(backbone, chosen)
        before, projections = ModelSnapshot(backbone.model), backbone.all_projections()
        try:
            return PeftAttachment(backbone, self.wrap(backbone, config), before, projections)
        except Exception as failure:
            before.restore()
            if isinstance(failure, AdapterError):
                raise
            sentence = f"peft's {self.method} does not work on this model: {first_line(failure)}"
            raise ForeignMethodError(sentence) from failure

    def configuration(self, backbone: Backbone, chosen: list[Projection]) -> Any:
        """peft's configuration object for these layers. Raises AdapterError as `configure` does."""
        valid = option_names(self.method)
        return configure(self.method, self.given, self.defaults(backbone, chosen, self.method.upper(), valid))

    def defaults(self, backbone: Backbone, chosen: list[Projection], kind: str, valid: set[str]) -> dict[str, Any]:
        """The target layers, by those of the configuration class's names that exist."""
        candidates = {
            "target_modules": norm_names(backbone.model) if kind == "LN_TUNING" else module_names(chosen),
            "feedforward_modules": module_names([p for p in chosen if p.group == "feed-forward"]),
            "fan_in_fan_out": any(p.transposed for p in chosen),
        }
        return {name: value for name, value in candidates.items() if name in valid}

    def wrap(self, backbone: Backbone, config: Any) -> Any:
        """peft's model around this one, whose layers it replaces in place; its forward runs once."""
        import torch
        from peft import get_peft_model

        training = backbone.model.training
        with warnings.catch_warnings():  # peft uses a name that transformers has deprecated
            warnings.simplefilter("ignore", FutureWarning)
            wrapped = get_peft_model(backbone.model, config, autocast_adapter_dtype=False)
        weight = next(backbone.model.parameters())
        inputs = {
            name: tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None)
            for name, tensor in backbone.example_input(torch.Generator().manual_seed(0)).items()
        }
        with torch.no_grad():
            backbone.model.eval()(**inputs)
        backbone.model.train(training)
        return wrapped


class PeftAttachment(Attachment):
    """One method of peft on one model; `base` and `projections` are those of the model before attaching."""

    def __init__(self, backbone: Backbone, wrapped: Any, base: ModelSnapshot, projections: list[Projection]):
        self.wrapped, self.base = wrapped, base
        owned = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
        targeted = set(wrapped.base_model.targeted_module_names)
        targets = count_roles(p for p in projections if p.name in targeted)
        super().__init__(backbone, owned, {"peft_type": str(wrapped.peft_type.value), "targets": targets})
        base.forget_unchanged()
        self.changed = ChangedBase(wrapped, base)

    def state(self) -> dict[str, Tensor]:
        return self._peft_state() | self.changed.state()

    def _peft_state(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        state: dict[str, Tensor] = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Load a `state()`; one of release 0.1 has no changed weights, and those drawn at attaching stay."""
        from peft import set_peft_model_state_dict

        own, changed = self._peft_state(), self.changed.state()
        of_changed = {name: tensor for name, tensor in state.items() if name in changed}
        check_state(state, own | changed if of_changed else own)
        if of_changed:
            self.changed.load(of_changed)
        set_peft_model_state_dict(self.wrapped, {name: tensor for name, tensor in state.items() if name in own})

    def initialise_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.peft_folder import read_state

        changes_base = bool(self.changed.layers)
        self.load(read_state(source, self.wrapped.active_peft_config, settings_of(adapter), changes_base))

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

    def detach(self) -> None:
        self.base.restore()


def module_names(projections: list[Projection]) -> list[str]:
    return list(dict.fromkeys(projection.name for projection in projections))


def norm_names(model: Module) -> list[str]:
    """Names of the normalisation layers."""
    return [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
