"""Any algorithm of the LyCORIS library, by its name and options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.backbone import count_roles
from adapters.base import Adapter, projections_of
from adapters.bounds import LARGEST_WIDTH, bounded
from adapters.errors import AdapterError, ForeignMethodError, first_line
from adapters.lycoris.algorithms import algorithm, check_options
from adapters.peft_library.options import JsonOptions

if TYPE_CHECKING:
    from adapters.backbone import Backbone, Projection
    from adapters.lycoris.layer import LycorisAttachment, LycorisUpdate


@dataclass(frozen=True)
class Lycoris(JsonOptions, Adapter, name="lycoris"):
    """An algorithm of the LyCORIS library: lokr, loha, locon, glora, boft, diag-oft, ia3, full and others (Yeh et al.
    2024, arXiv 2309.14859; needs the package lycoris-lora)."""

    size_field = "rank"
    mergeable = True
    formats = ("lycoris",)
    other_names = ("locon", "lycoris-lora")
    option_hints: ClassVar[Mapping[str, str]] = {
        "method": "use --adapter.algo",
        "alpha": "use --adapter.options '{\"alpha\": 8}'",
        "dropout": "use --adapter.options '{\"rank_dropout\": 0.1}'",
    }
    examples = ({}, {"algo": "glora"}, {"algo": "loha", "rank": 3, "options": {"alpha": 2}, "targets": ("linear",)})

    algo: str = "lokr"
    """LyCORIS' name for the algorithm."""
    rank: int = bounded(4, at_least=1, at_most=LARGEST_WIDTH)
    """LyCORIS' linear_dim: the rank; of boft and diag-oft the block size. ia3 and full have none."""
    options: str | dict[str, Any] = field(default_factory=dict)
    """Settings of the algorithm's class, such as '{"alpha": 8, "factor": 4}': JSON, a dict in Python. alpha is 1 unless
    it is set here."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers, as for lora."""

    @property
    def label(self) -> str:
        return f"{self.name} {self.algo}"

    def check_settings(self) -> None:
        super().check_settings()
        check_options(self.algo, self.given)

    def attach(self, backbone: Backbone) -> LycorisAttachment:
        """Attach to the targets. Recommended layers that LyCORIS does not update (embeddings) are left out."""
        from adapters.lycoris.layer import LycorisAttachment, is_supported

        chosen = projections_of(backbone, "--adapter.targets", self.targets)
        if self.targets == ("auto",):
            chosen = [projection for projection in chosen if is_supported(projection)] or chosen
        updates: dict[str, LycorisUpdate] = {}
        try:
            for projection in chosen:
                updates[projection.key] = self._update(projection)
            return LycorisAttachment(backbone, updates, {"targets": count_roles(chosen)})
        except BaseException:
            for update in updates.values():
                update.remove()
            raise

    def _update(self, projection: Projection) -> LycorisUpdate:
        from adapters.lycoris.layer import LycorisUpdate

        try:
            return LycorisUpdate(projection, algorithm(self.algo), self.rank, self.given)
        except AdapterError:
            raise
        except Exception as failure:
            sentence = f"LyCORIS' {self.algo} does not work on the layer '{projection.name}': {first_line(failure)}"
            raise ForeignMethodError(sentence) from failure
