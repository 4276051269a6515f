"""Base weights that an initialisation of peft's LoRA changes (PiSSA, OLoRA, LoftQ): saved, loaded and exported.

PiSSA and OLoRA move s B_0 A_0 out of the weight W into the initial factors, so the tuned weight is
W - s B_0 A_0 + s B A: the factors A and B mean nothing without A_0 and B_0, which may be drawn at random. LoftQ
quantises W, which no factors of low rank can express.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.peft_library.model_snapshot import ModelSnapshot

ADAPTER = "default"  # peft's name for the only adapter
INITIAL_A, INITIAL_B, WEIGHT = "initial_A", "initial_B", "changed_weight"


class ChangedLayer:
    """One layer of peft's LoRA whose weight is no longer the base's: `original` is the base's, in its own layout.

    `initial` are the factors of the current weight, A_0 of shape (rank, in) and B_0 of shape (out, rank), by their
    names in the state; None for an initialisation that changes the weight in another way (LoftQ).
    """

    def __init__(self, layer: Any, original: Tensor):
        """Right after attaching, while A and B are still A_0 and B_0: only then can the two kinds be told apart."""
        import torch

        self.layer, self.original = layer, original
        drawn = {INITIAL_A: _copy(layer.lora_A), INITIAL_B: _copy(layer.lora_B)}
        rounding = 8 * torch.finfo(original.dtype).eps * float(original.abs().max())
        is_low_rank = torch.allclose(self.without(drawn), self.weight, rtol=0, atol=rounding)
        self.initial: dict[str, Tensor] | None = drawn if is_low_rank else None

    @property
    def weight(self) -> nn.Parameter:
        return self.layer.get_base_layer().weight

    def without(self, initial: Mapping[str, Tensor]) -> Tensor:
        """W - s B_0 A_0, computed as peft does: in fp32, then in the weight's own format."""
        down, up = (initial[name].to(self.original.device).float() for name in (INITIAL_A, INITIAL_B))
        moved = self.layer.scaling[ADAPTER] * up @ down
        moved = moved.T if self.layer.fan_in_fan_out else moved
        return (self.original.float() - moved).to(self.original.dtype)

    def state(self) -> dict[str, Tensor]:
        """What the weight is computed from, or the weight itself."""
        return {WEIGHT: self.weight} if self.initial is None else self.initial

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Set the weight to that of another layer's `state()`, and keep the factors that it is computed from."""
        if self.initial is None:
            self.weight.copy_(state[WEIGHT])
        else:
            self.initial = {name: state[name].detach().clone() for name in self.initial}
            self.weight.copy_(self.without(self.initial))


class ChangedBase:
    """The changed layers of one wrapped model by their names in peft's state; empty for most methods."""

    def __init__(self, wrapped: Any, base: ModelSnapshot):
        """Right after attaching, while A and B are still A_0 and B_0. Raises AdapterError for an unknown change."""
        changed = {weight: value for weight, value in base.values.items() if not weight.requires_grad}
        layers = _lora_layers(wrapped) if changed else []
        owners = {module.get_base_layer().weight: (name, module) for name, module in layers}
        if not changed.keys() <= owners.keys():
            raise AdapterError(
                "the method changes base weights outside its own layers, so it cannot be saved: choose another"
            )
        self.layers = {
            name: ChangedLayer(module, changed[weight])
            for weight, (name, module) in owners.items()
            if weight in changed
        }

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
                layer.load({part: state[f"{name}.{part}"] for part in layer.state()})

    @property
    def is_low_rank(self) -> bool:
        """Whether a LoRA on the unchanged base expresses the tuned model."""
        return all(layer.initial is not None for layer in self.layers.values())

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
