"""AdaLoRA's rank allocator (Zhang et al. 2023, arXiv 2303.10512, section 3) without a wait for the GPU.

peft's own reads the threshold and every mask on the host, at each step that moves ranks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from peft.tuners.adalora.layer import RankAllocator
from torch import Tensor

AVERAGES = ("ipt", "exp_avg_ipt", "exp_avg_unc")  # dictionaries of tensors by parameter


class DeviceRankAllocator(RankAllocator):
    """peft's allocator, with rank patterns on the device: bool (r,) by the name of a layer's singular values.

    A step whose gradient was not finite, as `finite` says (a bool on the device), changes neither importances nor
    singular values.
    """

    finite: Tensor

    def update_ipt(self, model: Any) -> None:
        before = {kind: dict(getattr(self, kind)) for kind in AVERAGES}
        super().update_ipt(model)
        for kind, earlier in before.items():
            values = getattr(self, kind)
            for name, value in values.items():
                values[name] = torch.where(self.finite, value, earlier.get(name, torch.zeros_like(value)))

    def mask_to_budget(self, model: Any, budget: int) -> dict[str, Tensor]:
        """Keep the `budget` most important singular values; returns the pattern."""
        names = [name for name, _ in model.named_parameters() if f"lora_E.{self.adapter_name}" in name]
        scores = {name: self._score(name) for name in names}
        threshold = torch.kthvalue(torch.cat(list(scores.values())), self.init_bgt - budget).values
        pattern = {name: score > threshold for name, score in scores.items()}
        self.mask_using_rank_pattern(model, pattern)
        return pattern

    @torch.no_grad()
    def mask_using_rank_pattern(self, model: Any, rank_pattern: Mapping[str, Tensor]) -> None:
        for name, parameter in model.named_parameters():
            if name in rank_pattern:
                parameter.masked_fill_((~rank_pattern[name] & self.finite)[:, None], 0.0)

    def _score(self, name: str) -> Tensor:
        """Importance of each singular value with its vectors (r,), their equation 7."""
        left, right = (self._element_score(name.replace("lora_E", factor)) for factor in ("lora_B", "lora_A"))
        return self._element_score(name).view(-1) + (right.mean(dim=1) + left.mean(dim=0))
