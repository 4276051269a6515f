"""Any method of the peft library, by its name and options."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.base import Adapter, projections_of
from adapters.errors import AdapterError, ForeignMethodError, first_line
from adapters.peft_library.adalora import UNKNOWN_STEPS, AdaLoraAttachment, check_adalora
from adapters.peft_library.attachment import PeftAttachment
from adapters.peft_library.model_snapshot import ModelSnapshot
from adapters.peft_library.options import OWN_TARGETS, JsonOptions, configure, option_names
from adapters.peft_library.seeds import open_seeds

if TYPE_CHECKING:
    from adapters.backbone import Backbone, Module, Projection

IN_LYCORIS = {"boft": "boft", "glora": "glora", "loha": "loha", "lokr": "lokr", "oft": "diag-oft"}
TYPED_AS_METHODS = ("boft", "fourierft", "hira", "ln_tuning", "oft", "randlora")


def _as_option(**options: object) -> str:
    """The hint for an option of peft's configuration class."""
    return f"use --adapter.options '{json.dumps(options)}'"


def _by_method(method: str) -> str:
    """The hint for the name of one of peft's methods."""
    return f"use `peft TASK --adapter.method {method}`"


@dataclass(frozen=True)
class PeftMethod(JsonOptions, Adapter, name="peft"):
    """A method of the peft library: lora, vera, ia3, hira, randlora, fourierft, loha, boft, ln_tuning and others
    (Mangrulkar et al. 2022, github.com/huggingface/peft; its documentation names each method's paper)."""

    formats = ("peft",)
    may_merge = True
    name_hints: ClassVar[Mapping[str, str]] = {name: _by_method(name) for name in TYPED_AS_METHODS} | {
        "ln-tuning": _by_method("ln_tuning"),
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
    """Roles of the layers, as for lora, unless the options set target_modules; ln_tuning always takes the norms,
    adaption_prompt attention modules, trainable_tokens the embedding."""

    def check_settings(self) -> None:
        super().check_settings()
        if self.is_adalora:
            check_adalora(self.given)
        layers = {"target_modules", "feedforward_modules"} & option_names(self.method)
        steps = {"total_step": UNKNOWN_STEPS} if "total_step" in option_names(self.method) else {}
        configure(self.method, self.given, {**{key: ["layer"] for key in layers}, **steps})

    def check_steps(self, steps: int) -> None:
        if self.is_adalora:
            check_adalora(self.given, steps)

    @property
    def is_adalora(self) -> bool:
        """Whether the training loop must call the method's rank allocator."""
        return self.method.upper() == "ADALORA"

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
        seeds = open_seeds(self.method, self.given)
        config = self.configuration(backbone, chosen, seeds)
        before = ModelSnapshot(backbone.model)
        try:
            kind = AdaLoraAttachment if self.is_adalora else PeftAttachment
            return kind(backbone, config, seeds)
        except Exception as failure:
            before.restore()
            if isinstance(failure, AdapterError):
                raise
            sentence = f"peft's {self.method} does not work on this model: {first_line(failure)}{self._in_lycoris()}"
            raise ForeignMethodError(sentence) from failure

    def _in_lycoris(self) -> str:
        """The hint at the same method in the other library, which knows more kinds of layers."""
        algo = IN_LYCORIS.get(self.method.lower())
        return "" if algo is None else f"; LyCORIS has it too: try the method lycoris with --adapter.algo {algo}"

    def configuration(
        self, backbone: Backbone, chosen: list[Projection], seeds: Mapping[str, int] | None = None
    ) -> Any:
        """peft's configuration object for these layers. Raises AdapterError as `configure` does."""
        defaults = self.defaults(backbone, chosen, self.method.upper(), option_names(self.method))
        return configure(self.method, self.given, defaults | dict(seeds or {}))

    def defaults(self, backbone: Backbone, chosen: list[Projection], kind: str, valid: set[str]) -> dict[str, Any]:
        """The target layers, by those of the configuration class's names that exist."""
        candidates = {
            "target_modules": norm_names(backbone.model) if kind == "LN_TUNING" else module_names(chosen),
            "feedforward_modules": module_names([p for p in chosen if p.group == "feed-forward"]),
            "fan_in_fan_out": any(p.transposed for p in chosen),
            "total_step": UNKNOWN_STEPS,
        }
        if kind in OWN_TARGETS:
            del candidates["target_modules"]
        return {name: value for name, value in candidates.items() if name in valid}


def module_names(projections: list[Projection]) -> list[str]:
    return list(dict.fromkeys(projection.name for projection in projections))


def norm_names(model: Module) -> list[str]:
    """Names of the normalisation layers."""
    return [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
