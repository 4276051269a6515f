"""Stable Diffusion bases: the bundled `mini` or any folder in diffusers' layout, and what each recommends."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.base import TaskError
from tasks.configurations import STABLE_DIFFUSION, published
from tasks.pretrained import load_data_only, load_whole, read_card

if TYPE_CHECKING:
    import torch

BUNDLED = Path(__file__).parent.parent / "bundled"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")

# What the papers and diffusers' own recipe do on a published base (the text-to-image tutorial's settings).
PUBLISHED_CARD = {
    "targets": ["attention"],
    "train": {"steps": 15_000, "batch": 1, "learning_rate": 1e-4, "schedule": "constant", "warm_up": 0},
    "sampling": {"steps": 25, "guidance": 7.5},
}


@dataclass
class StableDiffusion:
    """The parts of a StableDiffusionPipeline, on one device, and the base's card.

    They are typed `Any`: diffusers makes their attributes (config, device, ...) while the program runs.
    """

    unet: Any  # UNet2DConditionModel
    vae: Any  # AutoencoderKL
    text_encoder: Any  # CLIPTextModel
    tokenizer: Any  # CLIPTokenizer
    scheduler: Any  # DDPMScheduler
    card: dict[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def resolution(self) -> int:
        """Pixels a side that the UNet was trained on."""
        return self.unet.config.sample_size * self.latent_factor

    @property
    def latent_factor(self) -> int:
        """Pixels a side of one latent position."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def device(self) -> "torch.device":
        return self.unet.device


def folder_of(base: str) -> Path:
    """The folder of a base by name or path. Raises TaskError where there is none."""
    folder = BUNDLED / "mini" if base == "mini" else Path(base)
    if not (folder / "model_index.json").is_file() and not (folder / "unet" / "config.json").is_file():
        raise TaskError(
            f"--task.base '{base}' is neither 'mini' nor a folder with a Stable Diffusion in diffusers' layout "
            "(model_index.json, unet/, vae/, text_encoder/, tokenizer/, scheduler/)"
        )
    return folder


def card_of(base: str) -> dict[str, Any]:
    """What the base recommends: its own `card.json`, or the published recipe where it has none."""
    if published(base, STABLE_DIFFUSION):
        return PUBLISHED_CARD
    file = folder_of(base) / "card.json"
    return read_card(file) if file.is_file() else PUBLISHED_CARD


def load(base: str, device: "torch.device") -> StableDiffusion:
    """All parts in fp32, frozen, from safetensors only."""
    import torch
    from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTokenizer

    quiet_loading()
    folder = folder_of(base)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise TaskError(f"--task.base '{base}': the folder {folder} lacks {', '.join(missing)}")
    unet = load_whole(UNet2DConditionModel, folder / "unet", base, torch_dtype=torch.float32)
    vae = load_whole(AutoencoderKL, folder / "vae", base, torch_dtype=torch.float32)
    text_encoder = load_whole(CLIPTextModel, folder / "text_encoder", base, dtype=torch.float32)
    models: list[Any] = [unet, vae, text_encoder]
    for model in models:
        model.to(device).eval().requires_grad_(False)
    tokenizer = load_data_only(CLIPTokenizer, folder / "tokenizer", base)
    scheduler = load_data_only(DDPMScheduler, folder / "scheduler", base)
    return StableDiffusion(unet, vae, text_encoder, tokenizer, scheduler, card_of(base), base)


def quiet_loading() -> None:
    """Loading a few small files needs no progress bar, and a missing torchvision is no news: nothing here needs it."""
    import diffusers
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
