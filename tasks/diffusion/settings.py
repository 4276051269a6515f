"""The settings that fine-tuning tasks of a Stable Diffusion share, by the names of diffusers' training scripts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from tasks.errors import TaskError

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.model.loaded_base import LoadedStableDiffusion

CHOSEN = {"crop": "center", "random_flip": False, "caption_dropout": 0.1}  # where neither user nor card says


@dataclass(frozen=True)
class DiffusionSettings:
    """What is not given is what the base's card recommends for the task: the tutorial's settings on a published base.

    A task is a subclass that is a `Task` too; its fields with the default None may stand in a card.
    """

    name: ClassVar[str]
    chosen: ClassVar[Mapping[str, Any]] = CHOSEN

    base: str = "mini"
    """The Stable Diffusion: the bundled "mini", the published "sd-1-5", "sd-2-1" or "sd-2-1-base", a folder in
    diffusers' layout, or a hub name such as "org/name" or "org/name@revision"."""
    allow_pickle: bool = False
    """Take weights in PyTorch's old pickle format too, where there are no safetensors."""
    resolution: int | None = None
    """Pixels a side. Default: the base's card, else the base's own."""
    crop: Literal["center", "random"] | None = None
    """Which square of a picture is learnt from, once its shorter side has the resolution. Default: the base's card."""
    crops: int = 4
    """Of random crops, how many fixed ones of each picture are kept encoded, evenly spaced."""
    random_flip: bool | None = None
    """Mirror half of the pictures. Default: the base's card."""
    encode: Literal["cached", "on-the-fly"] = "cached"
    """Encode each crop and flip once and release the VAE, or crop, flip and encode at every step."""
    caption_dropout: float | None = None
    """Share of training captions replaced by the empty one, for classifier-free guidance. Default: the base's card."""
    noise_offset: float = 0.0
    """Scale of noise that is equal over a whole channel, for darker and brighter pictures; 0.05 to 0.1 is usual."""
    snr_gamma: float | None = None
    """Weigh the loss by min(SNR, gamma); 5 in the paper (Hang et al. 2023, arXiv 2303.09556). Default: no weights."""
    train_text_encoder: bool = False
    """The method adapts the text encoder too; text states are then computed at every step."""
    validation_prompts: tuple[str, ...] = ()
    """Sampled during training, whenever the validation loss is measured; the pictures go to samples/."""
    num_inference_steps: int | None = None
    """DPM-Solver++ steps in evaluation. Default: the base's card."""
    guidance_scale: float | None = None
    """Guidance scale in evaluation. Default: the base's card."""
    features: str = "efficientnet"
    """Extractor of picture features: "efficientnet", "inception" (torch-fidelity), or a CLIP's name for CMMD."""
    scorer: str = "bundled"
    """The CLIP of the CLIP score, never the one that conditions the UNet: "bundled", a folder or a hub name."""

    def recommended(self, adapter: str) -> dict[str, Any]:
        """Training settings of the base's card for this task and method."""
        from tasks.diffusion.model.bases import recommended

        training, methods = (recommended(self.base, self.name, part) for part in ("train", "methods"))
        return training | methods.get(adapter, {})

    def load_base(self, device: torch.device) -> LoadedStableDiffusion:
        from tasks.diffusion.model.loaded_base import LoadedStableDiffusion

        return LoadedStableDiffusion(self.filled(), device)

    def filled(self) -> Self:
        """The same with what the base's card says where the user said nothing."""
        from tasks.diffusion.model.bases import recommended

        return self._with({**self.chosen, **recommended(self.base, self.name, "task")})

    def on_cpu(self) -> Self:
        from tasks.diffusion.model.bases import recommended

        return self._with(recommended(self.base, self.name, "on_cpu"))

    def _with(self, values: Mapping[str, Any]) -> Self:
        """The same with `values` where the user said nothing."""
        known = {f.name for f in fields(self)}
        return replace(self, **{k: v for k, v in values.items() if k in known and getattr(self, k) is None})

    def check(self) -> None:
        """Raise TaskError for a setting that cannot work. `self` is filled."""
        if not 0 <= (self.caption_dropout or 0) < 1:
            raise TaskError(f"--task.caption-dropout must be at least 0 and below 1, not {self.caption_dropout}")
        if self.crops < 1:
            raise TaskError(f"--task.crops must be at least 1, not {self.crops}")
        if self.snr_gamma is not None and self.snr_gamma <= 0:
            raise TaskError(f"--task.snr-gamma must be above 0, not {self.snr_gamma}")
        if self.noise_offset < 0:
            raise TaskError(f"--task.noise-offset must be at least 0, not {self.noise_offset}")
