"""Names that people type for a method with certain settings: `dora` is peft's LoRA with use_dora.

A run uses and records the underlying method (`Adapter.resolved`), not the preset.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar

from adapters.base import Adapter
from adapters.bounds import LARGEST_WIDTH, bounded
from adapters.errors import AdapterError
from adapters.lora import LARGEST_ALPHA, Lora
from adapters.peft_library.options import parse_options
from adapters.peft_method import PeftMethod

if TYPE_CHECKING:
    from adapters.backbone import Backbone
    from adapters.base import Attachment


@dataclass(frozen=True)
class RsLora(Lora, name="rslora"):
    """`lora` with --adapter.use-rslora, recorded as that: a scale of alpha / sqrt(rank) (Kalajdzievski 2023, arXiv
    2312.03732)."""

    preset_of = "lora"
    examples = ()

    use_rslora: bool = True
    """Scale by alpha / sqrt(rank); --adapter.no-use-rslora is plain `lora`."""

    def resolved(self) -> Lora:
        return Lora(**{f.name: getattr(self, f.name) for f in fields(Lora)})


@dataclass(frozen=True)
class PeftPreset(Adapter, name=None):
    """A method of peft with options of its own; its docstring says which."""

    preset_of = "peft"
    examples = ()
    formats = ("peft",)
    option_hints = PeftMethod.option_hints
    method: ClassVar[str]  # peft's name
    preset: ClassVar[Mapping[str, Any]] = {}  # its options
    settings: ClassVar[Mapping[str, str]] = {}  # peft's options that are settings here, by the setting

    options: str | dict[str, Any] = field(default_factory=dict)
    """Further settings of peft's configuration class: JSON such as '{"bias": "all"}', a dict in Python."""
    targets: tuple[str, ...] = ("auto",)
    """Roles of the layers, as for lora, unless the options set target_modules."""

    def resolved(self) -> PeftMethod:
        self.check_settings()
        given = parse_options(self.options)
        for setting, option in self.settings.items():
            if option in given:
                raise AdapterError(f"--adapter.options: give {option} as --adapter.{setting}")
        for option, value in self.preset.items():
            if not str(given.get(option, value)).startswith(str(value)):  # pissa_niter_4 is a PiSSA too
                raise AdapterError(
                    f"--adapter.options: {self.name} needs {option} {json.dumps(value)}, not "
                    f"{json.dumps(given[option])}: for that use `peft TASK --adapter.method {self.method}`"
                )
        own = {option: getattr(self, setting) for setting, option in self.settings.items()}
        return PeftMethod(self.method, {**own, **self.preset, **given}, self.targets, init=self.init)

    def attach(self, backbone: Backbone) -> Attachment:
        return self.resolved().attach(backbone)


@dataclass(frozen=True)
class PeftLoraPreset(PeftPreset, name=None):
    """peft's LoRA with options of its own."""

    size_field = "rank"
    method = "lora"
    settings: ClassVar[Mapping[str, str]] = {"rank": "r", "alpha": "lora_alpha"}

    rank: int = bounded(8, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of each update (peft's r)."""
    alpha: float = bounded(16.0, above=0, at_most=LARGEST_ALPHA)
    """Numerator of the scale alpha / rank (peft's lora_alpha), as for lora."""


@dataclass(frozen=True)
class Dora(PeftLoraPreset, name="dora"):
    """`peft` with method lora and option use_dora, recorded as that: the weight's magnitude and direction train apart
    (DoRA, Liu et al. 2024, arXiv 2402.09353)."""

    preset: ClassVar[Mapping[str, Any]] = {"use_dora": True}


@dataclass(frozen=True)
class Pissa(PeftLoraPreset, name="pissa"):
    """`peft` with method lora and option init_lora_weights pissa, recorded as that: A and B start as the weight's first
    singular vectors, which leave the weight (PiSSA, Meng et al. 2024, arXiv 2404.02948)."""

    preset: ClassVar[Mapping[str, Any]] = {"init_lora_weights": "pissa"}


@dataclass(frozen=True)
class AdaLora(PeftPreset, name="adalora"):
    """`peft` with method adalora, recorded as that: during training ranks move to layers where they matter (AdaLoRA,
    Zhang et al. 2023, arXiv 2303.10512)."""

    size_field = "rank"
    method = "adalora"
    settings: ClassVar[Mapping[str, str]] = {"rank": "target_r", "initial_rank": "init_r", "alpha": "lora_alpha"}

    rank: int = bounded(8, at_least=1, at_most=LARGEST_WIDTH)
    """Mean rank of the updates at the end (peft's target_r)."""
    initial_rank: int | None = bounded(None, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of each update at the start (peft's init_r). Default: 1.5 times the mean rank at the end, as in the
    paper."""
    alpha: float = bounded(16.0, above=0, at_most=LARGEST_ALPHA)
    """Numerator of the scale alpha / initial rank (peft's lora_alpha), as for lora."""

    def resolved(self) -> PeftMethod:
        self.check_settings()
        if self.initial_rank is None:
            return replace(self, initial_rank=self.rank + (self.rank + 1) // 2).resolved()
        return super().resolved()


@dataclass(frozen=True)
class Vera(PeftPreset, name="vera"):
    """`peft` with method vera, recorded as that: two random matrices that all layers share, scaled by trained vectors
    (VeRA, Kopiczko et al. 2024, arXiv 2310.11454)."""

    size_field = "rank"
    method = "vera"
    settings: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: int = bounded(256, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of the random matrices (peft's r)."""


@dataclass(frozen=True)
class Ia3(PeftPreset, name="ia3"):
    """`peft` with method ia3, recorded as that: a learned scale for each feature of keys, values and feed-forward
    layers, or of the targets (Liu et al. 2022, arXiv 2205.05638)."""

    method = "ia3"


@dataclass(frozen=True)
class LoHa(PeftPreset, name="loha"):
    """`peft` with method loha, recorded as that: the elementwise product of two low-rank matrices (FedPara, Hyeon-Woo
    et al. 2022, arXiv 2108.06098). LyCORIS' own is `lycoris` with --adapter.algo loha."""

    size_field = "rank"
    method = "loha"
    settings: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: int = bounded(8, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of each of the two matrices (peft's r); the product's is up to its square."""


@dataclass(frozen=True)
class LoKr(PeftPreset, name="lokr"):
    """`peft` with method lokr, recorded as that: a Kronecker product with a low-rank factor (Yeh et al. 2024, arXiv
    2309.14859). LyCORIS' own is `lycoris` with --adapter.algo lokr."""

    size_field = "rank"
    method = "lokr"
    settings: ClassVar[Mapping[str, str]] = {"rank": "r"}

    rank: int = bounded(8, at_least=1, at_most=LARGEST_WIDTH)
    """Rank of the second factor (peft's r); from half of its size on it is a whole matrix."""
