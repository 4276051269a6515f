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
FROZEN = ("vae", "text_encoder")  # parts that training can do without

# The settings of diffusers' tutorials for a published base: text-to-image and DreamBooth with LoRA.
TUTORIAL = {"batch": 1, "learning_rate": 1e-4, "schedule": "constant", "warm_up": 0, "precision": "fp16"}
PUBLISHED_CARD = {
    "targets": ["attention"],
    "sampling": {"steps": 25, "guidance": 7.5},
    "sd-pokemon": {
        "train": TUTORIAL | {"epochs": 100, "checkpoint_every": 5000},
        "task": {"resolution": 512, "crop": "random", "random_flip": True, "caption_dropout": 0.0},
    },
    "sd-dreambooth": {
        "train": TUTORIAL | {"steps": 500, "checkpoint_every": 100},
        "task": {"resolution": 512, "crop": "random", "test_items": 40},
    },
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

    def release(self, *parts: str) -> None:
        """Let go of frozen parts ("vae", "text_encoder"); each is read anew where it is next asked for."""
        for part in parts:
            self.__dict__.pop(part, None)

    def __getattr__(self, name: str) -> Any:
        """A part that was released, read again: the same weights from the same folder."""
        if name not in FROZEN:
            raise AttributeError(name)
        part = read_model(self.name, name).to(self.device)
        self.__dict__[name] = part
        return part

    @property
    def resolution(self) -> int:
        """Pixels a side that the UNet was trained on."""
        return self.unet.config.sample_size * self.latent_factor

    @property
    def latent_factor(self) -> int:
        """Pixels a side of one latent position."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    def latent_multiple(self, resolution: int) -> int:
        """The resolution, where latents can have it. Raises TaskError where they cannot."""
        if resolution < self.latent_factor or resolution % self.latent_factor:
            raise TaskError(
                f"--task.resolution must be a multiple of {self.latent_factor} on this base, not {resolution}"
            )
        return resolution

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


def recommended(base: str, task: str, part: str) -> dict[str, Any]:
    """What the base's card gives for a task: its "train", "methods" or "task" settings."""
    card = card_of(base)
    return card.get(task, PUBLISHED_CARD.get(task, {})).get(part, {})


def card_of(base: str) -> dict[str, Any]:
    """What the base recommends: its own `card.json`, or the published recipe where it has none."""
    if published(base, STABLE_DIFFUSION):
        return PUBLISHED_CARD
    file = folder_of(base) / "card.json"
    return read_card(file) if file.is_file() else PUBLISHED_CARD


def load(base: str, device: "torch.device") -> StableDiffusion:
    """All parts in fp32, frozen, from safetensors only."""
    from diffusers import DDPMScheduler
    from transformers import CLIPTokenizer

    quiet_loading()
    folder = folder_of(base)
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise TaskError(f"--task.base '{base}': the folder {folder} lacks {', '.join(missing)}")
    unet, vae, text_encoder = (read_model(base, part).to(device) for part in ("unet", *FROZEN))
    tokenizer = load_data_only(CLIPTokenizer, folder / "tokenizer", base)
    scheduler = load_data_only(DDPMScheduler, folder / "scheduler", base)
    return StableDiffusion(unet, vae, text_encoder, tokenizer, scheduler, card_of(base), base)


def read_model(base: str, part: str) -> Any:
    """The UNet, VAE or text encoder of a base, in fp32, frozen."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    precision = "dtype" if part == "text_encoder" else "torch_dtype"  # as transformers and diffusers call it
    model = load_whole(kinds[part], folder_of(base) / part, base, **{precision: torch.float32})
    return model.eval().requires_grad_(False)


def quiet_loading() -> None:
    """Loading a few small files needs no progress bar, and a missing torchvision is no news: nothing here needs it."""
    import diffusers
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    diffusers.utils.logging.disable_progress_bar()
