"""Base weights that an initialisation of peft's LoRA changes (PiSSA, OLoRA, LoftQ): saved, loaded and exported.

PiSSA and OLoRA move s B_0 A_0 out of the weight W into the initial factors, so the tuned weight is
W - s B_0 A_0 + s B A: the factors A and B mean nothing without A_0 and B_0, which may be drawn at random. LoftQ
quantises W, which no factors of low rank can express.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.model_snapshot import ModelSnapshot

ADAPTER = "default"  # peft's name for the only adapter
INITIAL_A, INITIAL_B, WEIGHT = "initial_A", "initial_B", "changed_weight"


@dataclass(frozen=True)
class ChangedLayer:
    """One layer of peft's LoRA whose weight is no longer the base's: `original` is the base's, in its own layout."""

    layer: Any
    original: Tensor
    down: Tensor  # A_0, (rank, in)
    up: Tensor  # B_0, (out, rank)

    @property
    def weight(self) -> nn.Parameter:
        return self.layer.get_base_layer().weight

    def without(self, down: Tensor, up: Tensor) -> Tensor:
        """W - s B_0 A_0, computed as peft does: in fp32, then in the weight's own format."""
        moved = self.layer.scaling[ADAPTER] * up.float() @ down.float()
        moved = moved.T if self.layer.fan_in_fan_out else moved
        return (self.original.float() - moved.to(self.original.device)).to(self.original.dtype)

    def is_low_rank(self) -> bool:
        """Whether the factors express the change, up to the rounding of the weight's format."""
        import torch

        precision = torch.finfo(self.original.dtype).eps * float(self.original.abs().max())
        return torch.allclose(self.without(self.down, self.up), self.weight, rtol=0, atol=8 * precision)

    def state(self) -> dict[str, Tensor]:
        """What the weight is computed from, or the weight itself."""
        if self.is_low_rank():
            return {INITIAL_A: self.down, INITIAL_B: self.up}
        return {WEIGHT: self.weight}


class ChangedBase:
    """The changed layers of one wrapped model by their names in peft's state; empty for most methods."""

    def __init__(self, wrapped: Any, base: ModelSnapshot):
        """Right after attaching, while A and B are still A_0 and B_0. Raises AdapterError for an unknown change."""
        layers = _lora_layers(wrapped) if base.values else []
        owners = {module.get_base_layer().weight: (name, module) for name, module in layers}
        if not base.values.keys() <= owners.keys():
            raise AdapterError(
                "the method changes base weights outside its own layers, so it cannot be saved: choose another"
            )
        self.layers = {
            name: ChangedLayer(module, base.values[weight], _copy(module.lora_A), _copy(module.lora_B))
            for weight, (name, module) in owners.items()
            if weight in base.values
        }
        self.saved = {name: list(layer.state()) for name, layer in self.layers.items()}

    def state(self) -> dict[str, Tensor]:
        """The tensors that `load` needs to change the base's weights in the same way, on the CPU."""
        return {
            f"{name}.{part}": tensor.detach().to("cpu", copy=True).contiguous()
            for name, layer in self.layers.items()
            for part, tensor in layer.state().items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the changed weights to those of the state."""
        import torch

        with torch.no_grad():
            for name, layer in self.layers.items():
                parts = {part: state[f"{name}.{part}"] for part in self.saved[name]}
                if WEIGHT in parts:
                    layer.weight.copy_(parts[WEIGHT])
                else:
                    layer.weight.copy_(layer.without(parts[INITIAL_A], parts[INITIAL_B]))

    @property
    def is_low_rank(self) -> bool:
        """Whether a LoRA on the unchanged base expresses the tuned model."""
        return all(WEIGHT not in parts for parts in self.saved.values())

    def converted(self, config: Any, state: Mapping[str, Tensor]) -> tuple[Any, dict[str, Tensor]]:
        """Configuration and state of the LoRA [A; A_0], [B, -B_0] of twice the rank on the unchanged base.

        As in peft's own conversion (`path_initial_model_for_weight_conversion`).
        """
        import torch

        tensors = {name: tensor for name, tensor in state.items() if not name.endswith((INITIAL_A, INITIAL_B))}
        for name in self.layers:
            for part, initial, dim in (("A", state[f"{name}.{INITIAL_A}"], 0), ("B", -state[f"{name}.{INITIAL_B}"], 1)):
                key = f"{name}.lora_{part}.weight"
                tensors[key] = torch.cat([tensors[key], initial.to(tensors[key])], dim=dim).contiguous()
        factor = math.sqrt(2) if config.use_rslora else 2
        config = copy(config)
        config.init_lora_weights = True
        config.r, config.lora_alpha = 2 * config.r, factor * config.lora_alpha
        config.rank_pattern = {name: 2 * rank for name, rank in config.rank_pattern.items()}
        config.alpha_pattern = {name: factor * alpha for name, alpha in config.alpha_pattern.items()}
        return config, tensors


def _lora_layers(wrapped: Any) -> list[tuple[str, Any]]:
    return [(name, module) for name, module in wrapped.named_modules() if ADAPTER in getattr(module, "lora_A", ())]


def _copy(factors: Any) -> Tensor:
    return factors[ADAPTER].weight.detach().clone()
