"""A method from another package; the testbed needs no edit."""

from dataclasses import dataclass

from adapters import Adapter, HookedAttachment, HookedUpdate


@dataclass(frozen=True)
class ScaledOutput(Adapter, name="scaled-output"):
    """One learned scale for each feature of each attention output (after IA3, Liu et al. 2022, arXiv 2205.05638)."""

    start: float = 1.0
    """Initial value of the scales."""

    def attach(self, backbone):
        return HookedAttachment(backbone, {p.key: Scale(p, self.start) for p in backbone.projections("output")})


class Scale(HookedUpdate):
    def __init__(self, projection, start):
        import torch

        scale = torch.nn.Parameter(torch.full((projection.out_features,), start))
        super().__init__(projection.module, {"scale": scale})

    def update(self, args, kwargs, output):
        return output * self["scale"]
