"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): peft's layers and rank allocator, called by our training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.peft_library.attachment import PeftAttachment

if TYPE_CHECKING:
    from torch import Tensor

    from adapters.backbone import Backbone

UNKNOWN_STEPS = 10**9  # until the first step says how many there are
PATTERN = "pattern"
LEAST = {"init_r": 1, "target_r": 1, "tinit": 0, "tfinal": 0, "deltaT": 1}
SMOOTHING = ("beta1", "beta2")


def check_adalora(options: Mapping[str, Any], steps: int = UNKNOWN_STEPS) -> None:
    """Raise AdapterError for options of peft's AdaLoRA that cannot work in a training of this many steps."""
    from peft import AdaLoraConfig

    values = {name: options.get(name, getattr(AdaLoraConfig, name)) for name in (*LEAST, *SMOOTHING)}
    for name, least in LEAST.items():
        if not isinstance(values[name], int) or values[name] < least:
            raise AdapterError(f"--adapter.options: {name} must be an integer from {least}, not {values[name]}")
    for name in SMOOTHING:
        if not isinstance(values[name], int | float) or not 0 < values[name] < 1:
            raise AdapterError(f"--adapter.options: {name} must lie between 0 and 1, not {values[name]}")
    if "total_step" in options:
        raise AdapterError("--adapter.options: leave out total_step, which is the training's length (--train.steps)")
    first, last = values["init_r"], values["target_r"]
    if last >= first:
        raise AdapterError(
            f"ranks fall during AdaLoRA's training: the mean at the end (target_r) must be below the rank at the start "
            f"(init_r), not {last} and {first}"
        )
    if values["tinit"] + values["tfinal"] >= steps:
        raise AdapterError(
            f"--adapter.options: tinit {values['tinit']} and tfinal {values['tfinal']} leave none of the {steps} steps "
            "for moving ranks: lower them, or train longer"
        )


class AdaLoraAttachment(PeftAttachment):
    """AdaLoRA on one model. A singular value that the allocator has masked is zero, and stays in the saved state."""

    pattern: dict[str, Tensor] | None = None  # which singular values of each layer are kept, bool (r,)

    def __init__(self, backbone: Backbone, config: Any, seeds: Mapping[str, int | None]):
        from adapters.peft_library.rank_allocator import DeviceRankAllocator

        super().__init__(backbone, config, seeds)
        model = self.wrapped.base_model
        name = model.trainable_adapter_name
        self.allocator = model.rankallocator = DeviceRankAllocator(model.model, model.peft_config[name], name)

    def regularization(self) -> Tensor:
        """orth_reg_weight times the mean of ||P^T P - I||_F and ||Q Q^T - I||_F over the layers (their equation 4)."""
        import torch

        norms = []
        for name, factor in self.parameters().items():
            if "lora_A" in name or "lora_B" in name:
                gram = factor @ factor.T if "lora_A" in name else factor.T @ factor
                norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.wrapped.active_peft_config.orth_reg_weight * torch.stack(norms).mean()

    def after_step(self, step: int, steps: int, finite: Tensor) -> None:
        """Update the importance of every singular value, and mask the least important down to the step's budget."""
        config = self.wrapped.active_peft_config
        self.allocator.finite = finite
        config.total_step = steps
        config.rank_pattern = self.pattern
        self.wrapped.base_model.update_and_allocate(step)
        self.pattern, config.rank_pattern = config.rank_pattern, None  # peft would cut the saved tensors by it
        if step == steps:
            self._record_ranks()

    def training_state(self) -> dict[str, Tensor]:
        from adapters.peft_library.rank_allocator import AVERAGES

        kinds = {kind: getattr(self.allocator, kind) for kind in AVERAGES} | {PATTERN: self.pattern or {}}
        return {
            f"{kind}.{name}": tensor.detach().to("cpu", copy=True)
            for kind, tensors in kinds.items()
            for name, tensor in tensors.items()
        }

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        from adapters.peft_library.rank_allocator import AVERAGES

        parts: dict[str, dict[str, Tensor]] = {kind: {} for kind in (*AVERAGES, PATTERN)}
        owned = {name: p for name, p in self.wrapped.base_model.model.named_parameters() if p.requires_grad}
        for key, tensor in state.items():
            kind, _, name = key.partition(".")
            parts[kind][name] = tensor.to(owned[name].device)
        for kind in AVERAGES:
            setattr(self.allocator, kind, parts[kind])
        self.pattern = parts[PATTERN] or None
        self._record_ranks()

    def _record_ranks(self) -> None:
        if self.pattern is not None:
            self.facts["ranks"] = {name.split(".lora_E")[0]: int(kept.sum()) for name, kept in self.pattern.items()}
