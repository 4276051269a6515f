"""Any method of the peft library, by its name and options."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.backbone import count_roles
from adapters.base import Adapter, Attachment, check_state
from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone, Module, Projection

NEED_THEIR_OWN_LOOP = {
    "ADALORA": "it moves ranks between layers by calls within the training loop",
    "POLY": "it takes a task's number with every batch",
    "XLORA": "it mixes adapters that were trained before",
}


@dataclass(frozen=True)
class PeftMethod(Adapter, name="peft"):
    """A method of the peft library: lora, vera, ia3, hira, randlora, fourierft, loha, boft, ln_tuning and others
    (Mangrulkar et al. 2022, github.com/huggingface/peft; each method's paper is on its page there)."""

    examples = ({}, {"method": "vera", "options": '{"r": 8}'}, {"method": "ia3", "targets": ("linear",)})

    method: str = "lora"
    """peft's name of the method."""
    options: str = "{}"
    """Settings of peft's configuration class, as JSON: '{"r": 8}'."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers, as for lora, where the options name no target_modules; ln_tuning takes the norms."""

    def attach(self, backbone: Backbone) -> PeftAttachment:
        """The recommended layers that the method cannot update (convolutions) are left out; those named, never."""
        try:
            chosen = backbone.projections(*self.targets)
        except LookupError as unknown:
            raise AdapterError(f"--adapter.targets: {unknown.args[0]}") from None
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
        """peft's method on these layers, where its options name no others; tried once, before any training."""
        config = self.configuration(backbone, chosen)
        before, projections = Structure(backbone.model), backbone.all_projections()
        try:
            return PeftAttachment(backbone, self.wrap(backbone, config), before, projections)
        except Exception as failure:
            before.restore()
            if isinstance(failure, AdapterError):
                raise
            reason = str(failure).strip().split("\n")[0]
            raise AdapterError(f"peft's {self.method} does not work on this model: {reason}") from failure

    def configuration(self, backbone: Backbone, chosen: list[Projection]) -> Any:
        """peft's configuration object. Raises AdapterError for a method that cannot work in the one loop."""
        from peft.config import PromptLearningConfig
        from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

        classes = {str(kind.value): known for kind, known in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
        kind = self.method.upper()
        if kind not in classes:
            raise AdapterError(f"peft has no method '{self.method}'; it has {', '.join(sorted(classes)).lower()}")
        if kind in NEED_THEIR_OWN_LOOP:
            raise AdapterError(f"peft's {self.method} cannot be compared here: {NEED_THEIR_OWN_LOOP[kind]}")
        if issubclass(classes[kind], PromptLearningConfig):
            raise AdapterError(
                f"peft's {self.method} lengthens the model's sequence, which the tasks' losses do not expect; "
                "take the method prefix"
            )
        valid = {f.name for f in fields(classes[kind])}
        options = {**self.defaults(backbone, chosen, kind, valid), **self.parsed_options(valid)}
        try:
            return classes[kind](**options)
        except (TypeError, ValueError) as failure:
            raise AdapterError(f"--adapter.options for peft's {self.method}: {failure}") from None

    def parsed_options(self, valid: set[str]) -> dict[str, Any]:
        try:
            options = json.loads(self.options)
        except json.JSONDecodeError as failure:
            raise AdapterError(f"--adapter.options must be JSON such as '{{\"r\": 8}}': {failure}") from None
        unknown = sorted(options.keys() - valid)
        if unknown:
            raise AdapterError(f"peft's {self.method} has no option '{unknown[0]}'; it has {', '.join(sorted(valid))}")
        return options

    def defaults(self, backbone: Backbone, chosen: list[Projection], kind: str, valid: set[str]) -> dict[str, Any]:
        """The target layers, in the words of the configuration class."""
        candidates = {
            "target_modules": norms(backbone.model) if kind == "LN_TUNING" else names(chosen),
            "feedforward_modules": names([p for p in chosen if p.group == "feed-forward"]),
            "fan_in_fan_out": any(p.transposed for p in chosen),
        }
        return {name: value for name, value in candidates.items() if name in valid}

    def wrap(self, backbone: Backbone, config: Any) -> Any:
        """peft's model around this one, whose layers it replaces in place; its forward is tried."""
        import torch
        from peft import get_peft_model

        training = backbone.model.training
        with warnings.catch_warnings():  # of a name that transformers has changed and peft still asks for
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


class Structure:
    """A model's modules and weights as they are now, to put back; peft's methods replace modules, some weights too."""

    def __init__(self, model: Module):
        self.model = model
        self.children = {module: dict(module._modules) for module in model.modules()}
        self.flags = {parameter: parameter.requires_grad for parameter in model.parameters()}
        self.values = {parameter: parameter.detach().clone() for parameter in model.parameters()}

    def forget_unchanged(self) -> None:
        """Keep copies of those weights alone that the method has changed."""
        import torch

        self.values = {p: v for p, v in self.values.items() if not p.is_meta and not torch.equal(p, v)}

    def restore(self) -> None:
        """Modules and flags as they were, and the weights that are kept."""
        for module, children in self.children.items():
            module._modules.clear()
            module._modules.update(children)
        self._put(self.values)
        for parameter, flag in self.flags.items():
            parameter.requires_grad_(flag)
        self.model.__dict__.pop("peft_config", None)

    @contextmanager
    def reinstated(self) -> Iterator[None]:
        """A context in which the model has the modules and weights of then."""
        now = {module: dict(module._modules) for module in self.model.modules()}
        values = {parameter: parameter.detach().clone() for parameter in self.values}
        flags = {parameter: parameter.requires_grad for parameter in self.flags}
        config = self.model.__dict__.get("peft_config")
        self.restore()
        try:
            yield
        finally:
            for module, children in now.items():
                module._modules.clear()
                module._modules.update(children)
            self._put(values)
            for parameter, flag in flags.items():
                parameter.requires_grad_(flag)
            self.model.peft_config = config

    def _put(self, values: Mapping[nn.Parameter, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for parameter, value in values.items():
                parameter.copy_(value)


class PeftAttachment(Attachment):
    """One method of peft on one model; `base` is the model as it was before, `projections` its own."""

    def __init__(self, backbone: Backbone, wrapped: Any, base: Structure, projections: list[Projection]):
        self.wrapped, self.base = wrapped, base
        owned = {name: p for name, p in backbone.model.named_parameters() if p.requires_grad}
        taken = set(wrapped.base_model.targeted_module_names)
        targets = count_roles(p for p in projections if p.name in taken)
        super().__init__(backbone, owned, {"peft_type": str(wrapped.peft_type.value), "targets": targets})
        base.forget_unchanged()

    def state(self) -> dict[str, Tensor]:
        from peft import get_peft_model_state_dict

        found: dict[str, Tensor] = get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in found.items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        from peft import set_peft_model_state_dict

        check_state(state, self.state())
        set_peft_model_state_dict(self.wrapped, dict(state))

    def begin_from(self, source: Path, adapter: Adapter) -> None:
        from adapters.interchange.peft_folder import read_state

        self.load(read_state(source, self.wrapped.active_peft_config, adapter))

    def export(self, folder: Path, form: str | None = None) -> list[Path]:
        from adapters.interchange.peft_folder import save

        if form not in (None, "peft"):
            raise AdapterError(f"the methods of peft have no form '{form}'; theirs is peft")
        config = copy(self.wrapped.active_peft_config)
        config.inference_mode = True
        return save(config, self.state(), folder)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        with self.base.reinstated():
            yield

    def detach(self) -> None:
        self.base.restore()


def names(projections: list[Projection]) -> list[str]:
    return list(dict.fromkeys(projection.name for projection in projections))


def norms(model: Module) -> list[str]:
    """The names of the normalisation layers."""
    return [name for name, module in model.named_modules() if "Norm" in type(module).__name__]
