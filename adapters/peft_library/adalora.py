"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): peft's layers and rank allocator, called by our training loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.peft_library.attachment import PeftAttachment

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN_STEPS = 10**9  # until the first step says how many there are
AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # the allocator's dictionaries of tensors by parameter
PATTERN = "pattern"


class AdaLoraAttachment(PeftAttachment):
    """AdaLoRA on one model. A singular value that the allocator has masked is zero, and stays in the saved state."""

    pattern: dict[str, list[bool]] | None = None  # which singular values of each layer are kept

    @property
    def _allocator(self) -> Any:
        return self.wrapped.base_model.rankallocator

    def regularization(self) -> Tensor:
        """orth_reg_weight times the mean of ||P^T P - I||_F and ||Q Q^T - I||_F over the layers (their equation 4)."""
        import torch

        norms = []
        for name, factor in self.parameters().items():
            if "lora_A" in name or "lora_B" in name:
                gram = factor @ factor.T if "lora_A" in name else factor.T @ factor
                norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.wrapped.active_peft_config.orth_reg_weight * torch.stack(norms).mean()

    def after_step(self, step: int, steps: int) -> None:
        """Update the importance of every singular value, and mask the least important down to the step's budget."""
        config = self.wrapped.active_peft_config
        if config.tinit >= steps - config.tfinal:
            raise AdapterError(
                f"--adapter.options: tinit {config.tinit} and tfinal {config.tfinal} leave none of the {steps} steps "
                "for moving ranks: lower them, or train longer"
            )
        if step > steps or not all(p.grad is not None and bool(p.grad.isfinite().all()) for p in self._owned.values()):
            return  # a step that the gradient scaler has skipped
        config.total_step = steps
        config.rank_pattern = self.pattern
        self.wrapped.base_model.update_and_allocate(step)
        self.pattern, config.rank_pattern = config.rank_pattern, None  # peft would cut the saved tensors by it
        if self.pattern is not None:
            self.facts["ranks"] = {_layer(name): sum(kept) for name, kept in self.pattern.items()}

    def training_state(self) -> dict[str, Tensor]:
        import torch

        state = {
            f"{kind}.{name}": tensor.detach().to("cpu", copy=True)
            for kind in AVERAGES
            for name, tensor in getattr(self._allocator, kind).items()
        }
        return state | {f"{PATTERN}.{name}": torch.tensor(kept) for name, kept in (self.pattern or {}).items()}

    def load_training_state(self, state: Mapping[str, Tensor]) -> None:
        parts: dict[str, dict[str, Any]] = {kind: {} for kind in (*AVERAGES, PATTERN)}
        owned = {name: p for name, p in self.wrapped.base_model.model.named_parameters() if p.requires_grad}
        for key, tensor in state.items():
            kind, _, name = key.partition(".")
            parts[kind][name] = tensor.tolist() if kind == PATTERN else tensor.to(owned[name])
        for kind in AVERAGES:
            setattr(self._allocator, kind, parts[kind])
        self.pattern = parts[PATTERN] or None


def _layer(name: str) -> str:
    return name.split(".lora_E")[0]
