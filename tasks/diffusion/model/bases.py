"""Stable Diffusion bases by name, folder or place on the hub, and what each recommends."""

import difflib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.loading import load_data_only, load_whole, read_card
from tasks.pretrained.published.shapes import STABLE_DIFFUSION, names, published

if TYPE_CHECKING:
    import torch

BUNDLED = Path(__file__).parents[2] / "bundled"
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
FROZEN = ("vae", "text_encoder")  # parts that training can do without
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLED = WEIGHTS | {"text_encoder": "pytorch_model"}

# The settings of diffusers' tutorials for a published base: text-to-image and DreamBooth with LoRA.
TUTORIAL = {
    "batch_size": 1,
    "learning_rate": 1e-4,
    "lr_scheduler": "constant",
    "warmup_steps": 0,
    "mixed_precision": "fp16",
}
DESCRIPTIONS = ["model_index.json", "tokenizer/*", "*/config.json", "scheduler/*.json"]  # files without weights
# The subspace's steps are as long as full fine-tuning's at its default dimension: rate * sqrt(weights / dimension)
METHOD_RATES = {"subspace": {"learning_rate": 3e-2}}
PUBLISHED_CARD = {
    "targets": ["attention"],
    "sampling": {"num_inference_steps": 25, "guidance_scale": 7.5},
    "sd-pokemon": {
        "train": TUTORIAL | {"epochs": 100, "checkpointing_steps": 5000},
        "methods": METHOD_RATES,
        "task": {"resolution": 512, "crop": "random", "random_flip": True, "caption_dropout": 0.0},
        # a picture of 512 pixels takes a CPU ten seconds to encode and minutes to sample
        "on_cpu": {"train_items": 8, "validation_items": 1, "test_items": 0, "drift_items": 0},
    },
    "sd-dreambooth": {
        "train": TUTORIAL | {"steps": 500, "checkpointing_steps": 100},
        "methods": METHOD_RATES,
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
    allow_pickle: bool = False  # whether the weights may be so

    def release(self, *parts: str) -> None:
        """Let go of frozen parts ("vae", "text_encoder"); each is read anew where it is next asked for."""
        for part in parts:
            self.__dict__.pop(part, None)

    def __getattr__(self, name: str) -> Any:
        """A part that was released, read again: the same weights from the same folder."""
        if name not in FROZEN:
            raise AttributeError(name)
        part = read_model(self.name, name, self.allow_pickle).to(self.device)
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


@cache
def folder_of(base: str, allow_pickle: bool = False, weights: bool = True) -> Path:
    """The folder of a base: the bundled one, a folder here, or the hub's files of a published or any other name.

    `allow_pickle` fetches weights in PyTorch's old format too; without `weights` the hub's configurations do. Raises
    TaskError where there is none.
    """
    if base == "mini":
        return BUNDLED / "mini"
    known = published(base, STABLE_DIFFUSION)
    if known is None and not Path(base).is_dir() and not hub.is_place(base):
        raise TaskError(f"--task.base '{base}' is {_nothing_known(base)}")
    if known is None and Path(base).is_dir():
        return _checked(Path(base), base)
    places = [base] if known is None else known["hub"]
    files = _files(allow_pickle) if weights else DESCRIPTIONS
    return _checked(hub.fetch("--task.base", base, places, files, "model").folder, base)


def _nothing_known(base: str) -> str:
    near = difflib.get_close_matches(base, ["mini", *names(STABLE_DIFFUSION)], n=1)
    meant = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"neither one of mini, {', '.join(names(STABLE_DIFFUSION))}{meant}, nor an existing folder in diffusers' "
        "layout, nor a name on the hub such as 'org/name' or 'org/name@revision'"
    )


def _files(allow_pickle: bool) -> list[str]:
    """What a base is made of in the hub's repository, and nothing else: the other formats are gigabytes."""
    files = [*DESCRIPTIONS, *(f"{part}/{name}.safetensors" for part, name in WEIGHTS.items())]
    return files + [f"{part}/{name}.bin" for part, name in PICKLED.items() if allow_pickle]


def _checked(folder: Path, base: str) -> Path:
    missing = [part for part in PARTS if not (folder / part).is_dir()]
    if missing:
        raise TaskError(
            f"--task.base '{base}': the folder {folder} lacks {', '.join(missing)}; expected a Stable Diffusion in "
            f"diffusers' layout ({', '.join(PARTS)})"
        )
    return folder


def recommended(base: str, task: str, part: str) -> dict[str, Any]:
    """What the base's card gives for a task: its "train", "methods", "task" or "on_cpu" settings."""
    card = card_of(base)
    return card.get(task, PUBLISHED_CARD.get(task, {})).get(part, {})


def card_of(base: str) -> dict[str, Any]:
    """What the base recommends: its own `card.json`, or the published recipe where it has none."""
    file = (BUNDLED / "mini" if base == "mini" else Path(base)) / "card.json"
    return read_card(file) if file.is_file() else PUBLISHED_CARD


def load(base: str, device: "torch.device", allow_pickle: bool = False) -> StableDiffusion:
    """All parts in fp32, frozen; from safetensors alone, unless `allow_pickle` weights are asked for."""
    folder = folder_of(base, allow_pickle)  # first: a base that cannot be had is told before slow imports
    from diffusers import DDPMScheduler
    from transformers import CLIPTokenizer

    unet, vae, text_encoder = (read_model(base, part, allow_pickle).to(device) for part in ("unet", *FROZEN))
    tokenizer = load_data_only(CLIPTokenizer, folder / "tokenizer", base)
    scheduler = load_data_only(DDPMScheduler, folder / "scheduler", base)
    return StableDiffusion(unet, vae, text_encoder, tokenizer, scheduler, card_of(base), base, allow_pickle)


def read_model(base: str, part: str, allow_pickle: bool = False) -> Any:
    """The UNet, VAE or text encoder of a base, in fp32, frozen."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    precision = "dtype" if part == "text_encoder" else "torch_dtype"  # as transformers and diffusers call it
    options: dict[str, Any] = {precision: torch.float32, "use_safetensors": None if allow_pickle else True}
    model = load_whole(kinds[part], folder_of(base, allow_pickle) / part, base, **options)
    return model.eval().requires_grad_(False)
