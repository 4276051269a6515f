"""Ways to adapt a pretrained model, each a frozen dataclass of settings: `Lora(rank=8)`.

`attach(adapter, backbone)` makes the backbone's model trainable in that way. Names are imported on first use, so that
importing this package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from adapters.peft_library.notices import hide_notices

if TYPE_CHECKING:
    from adapters.backbone import Backbone
    from adapters.base import Adapter, Attachment, attach
    from adapters.bottleneck import Bottleneck
    from adapters.errors import AdapterError
    from adapters.full_finetuning import FullFinetuning
    from adapters.hooks import HookedAttachment, HookedUpdate, MergeableAttachment
    from adapters.lora import Lora
    from adapters.lycoris import Lycoris
    from adapters.peft_method import PeftMethod
    from adapters.prefix_tuning import PrefixTuning
    from adapters.presets import AdaLora, Dora, Ia3, LoHa, LoKr, Pissa, RsLora, Vera
    from adapters.subspace import Subspace

MODULES = {
    "Adapter": "base",
    "AdapterError": "errors",
    "Attachment": "base",
    "Backbone": "backbone",
    "Bottleneck": "bottleneck",
    "FullFinetuning": "full_finetuning",
    "HookedAttachment": "hooks",
    "HookedUpdate": "hooks",
    "Lora": "lora",
    "Lycoris": "lycoris",
    "MergeableAttachment": "hooks",
    "PeftMethod": "peft_method",
    "PrefixTuning": "prefix_tuning",
    "Subspace": "subspace",
    "attach": "base",
    "AdaLora": "presets",
    "Dora": "presets",
    "Ia3": "presets",
    "LoHa": "presets",
    "LoKr": "presets",
    "Pissa": "presets",
    "RsLora": "presets",
    "Vera": "presets",
}
__all__ = [
    "AdaLora",
    "Adapter",
    "AdapterError",
    "Attachment",
    "Backbone",
    "Bottleneck",
    "Dora",
    "FullFinetuning",
    "HookedAttachment",
    "HookedUpdate",
    "Ia3",
    "LoHa",
    "LoKr",
    "Lora",
    "Lycoris",
    "MergeableAttachment",
    "PeftMethod",
    "Pissa",
    "PrefixTuning",
    "RsLora",
    "Subspace",
    "Vera",
    "attach",
]


hide_notices()


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module 'adapters' has no attribute '{name}'")
    return getattr(import_module(f"adapters.{MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
