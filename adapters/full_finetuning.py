"""Full fine-tuning: the reference for every adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from adapters.base import Adapter, Attachment
from adapters.bounds import LARGEST_WIDTH, bounded
from adapters.errors import AdapterError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from adapters.backbone import Backbone


@dataclass(frozen=True)
class FullFinetuning(Adapter, name="full"):
    """Full fine-tuning: every weight trains, or only the last blocks (FT-Top2 of Li & Liang 2021, arXiv 2101.00190),
    or only biases (BitFit, Ben Zaken et al. 2021, arXiv 2106.10199)."""

    size_field = "top_blocks"
    formats = ()
    mergeable = True  # the weights themselves train
    trains_base = True
    other_names = (
        "fft",
        "ft",
        "full-finetuning",
        "full-fine-tuning",
        "fine-tuning",
        "fine-tune",
        "finetuning",
        "finetune",
    )
    examples = ({}, {"top_blocks": 1}, {"biases_only": True})

    top_blocks: int | None = bounded(None, at_least=1, at_most=LARGEST_WIDTH)
    """Train only this many of the last transformer blocks. Default: all weights."""
    biases_only: bool = False
    """Train only the bias vectors (of the top blocks, if --adapter.top-blocks is set). They need higher rates than all
    weights, which the base's rate for this method is for: the paper's are 1e-4 to 1e-3."""

    def attach(self, backbone: Backbone) -> FullAttachment:
        chosen = dict(backbone.model.named_parameters())
        if self.top_blocks is not None:
            blocks = backbone.blocks()
            if self.top_blocks > len(blocks):
                raise AdapterError(
                    f"--adapter.top-blocks must be 1 to {len(blocks)} on this model, not {self.top_blocks}"
                )
            prefixes = tuple(f"{block.name}." for block in blocks[-self.top_blocks :])
            chosen = {name: p for name, p in chosen.items() if name.startswith(prefixes)}
        if self.biases_only:
            chosen = {name: p for name, p in chosen.items() if name.split(".")[-1] == "bias"}
        return FullAttachment(backbone, chosen)


class FullAttachment(Attachment):
    """Trained base weights, with a copy of the originals on the CPU that restores the base model bit for bit."""

    def __init__(self, backbone: Backbone, owned: Mapping[str, nn.Parameter]):
        super().__init__(backbone, owned)
        self._base = {
            name: p.detach().clone() if p.is_meta else p.detach().to("cpu", copy=True) for name, p in owned.items()
        }

    def _copy_in(self, values: Mapping[str, Tensor]) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._owned.items():
                parameter.copy_(values[name])

    @contextmanager
    def disabled(self) -> Iterator[None]:
        tuned = {name: parameter.detach().clone() for name, parameter in self._owned.items()}
        self._copy_in(self._base)
        try:
            yield
        finally:
            self._copy_in(tuned)

    def merge(self) -> None:
        """Nothing to do: the update is in the weights already."""

    def unmerge(self) -> None:
        """Nothing to undo."""

    def rescale(self, factor: float) -> None:
        import torch

        with torch.no_grad():
            for name, parameter in self._owned.items():
                base = self._base[name].to(parameter)
                parameter.copy_(base + factor * (parameter - base))

    def detach(self) -> None:
        self._copy_in(self._base)
        self.restore_requires_grad()
