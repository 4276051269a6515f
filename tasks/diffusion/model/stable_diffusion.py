"""Stable Diffusion 1 and 2: everything that is particular to this kind of diffusion model.

Another kind (Stable Diffusion XL) is one more class with the same methods, listed in `bases.model_classes`: it names
its own pipeline, parts and files, and its text conditions hold more entries.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from tasks.diffusion.model.backbone import StableDiffusionBackbone
from tasks.diffusion.model.encoding import (
    cut_captions,
    decode_latents,
    encode_captions,
    encode_pictures,
    encode_posterior,
    latent_factor,
    tokenize,
    trained_resolution,
)
from tasks.errors import TaskError
from tasks.pretrained.loading import check_vocabulary, load_data_only, load_model, quiet

Conditions = dict[str, Tensor]  # what the denoiser takes beside noisy latents and timesteps, one row per picture


@dataclass
class StableDiffusion:
    """The parts of a StableDiffusionPipeline on one device, in fp32 and frozen, and the base's card.

    The parts are typed `Any`: diffusers creates their attributes (config, device, ...) at run time. `folder` is None
    for a model on the meta device, which has no tokenizer and no scheduler.
    """

    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    parts: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    models: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder")
    frozen: ClassVar[tuple[str, ...]] = ("vae", "text_encoder")  # training can do without them
    conditioning: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer")  # what text conditions depend on
    description_files: ClassVar[tuple[str, ...]] = (
        "tokenizer/*",
        "scheduler/*.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
    )
    weight_files: ClassVar[tuple[str, ...]] = (
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    )
    pickle_files: ClassVar[tuple[str, ...]] = (
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.bin",
        "text_encoder/pytorch_model.bin",
    )

    unet: Any  # UNet2DConditionModel
    vae: Any  # AutoencoderKL
    text_encoder: Any  # CLIPTextModel
    tokenizer: Any  # CLIPTokenizer
    scheduler: Any  # DDPMScheduler
    card: dict[str, Any] = field(default_factory=dict)
    name: str = ""  # as --task.base names it
    folder: Path | None = None
    allow_pickle: bool = False
    train_text_encoder: bool = False

    @classmethod
    def load(
        cls,
        folder: Path,
        name: str,
        card: dict[str, Any],
        device: torch.device,
        allow_pickle: bool = False,
        train_text_encoder: bool = False,
    ) -> Self:
        """All parts from a folder in diffusers' layout. Raises TaskError if one is broken."""
        from diffusers import DDPMScheduler

        unet, vae, text_encoder = (cls._read(folder, name, part, allow_pickle).to(device) for part in cls.models)
        unet.to(memory_format=torch.channels_last)
        tokenizer = cls.load_tokenizer(folder, name)
        scheduler = load_data_only(DDPMScheduler, folder / "scheduler", name)
        parts = (unet, vae, text_encoder, tokenizer, scheduler)
        return cls(*parts, card, name, folder, allow_pickle, train_text_encoder)

    @staticmethod
    def load_tokenizer(folder: Path, name: str) -> Any:
        """The tokenizer, whose `model_max_length` is what the text encoder reads. Raises TaskError."""
        from transformers import CLIPTextConfig, CLIPTokenizer

        tokenizer = load_data_only(CLIPTokenizer, folder / "tokenizer", name)
        config = load_data_only(CLIPTextConfig, folder / "text_encoder", name)
        check_vocabulary(tokenizer, config.vocab_size, name)
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
        return tokenizer

    @classmethod
    def from_configurations(
        cls, configurations: Mapping[str, Any], name: str, card: dict[str, Any], train_text_encoder: bool = False
    ) -> Self:
        """The models on the meta device, from the `config.json` of each: shapes without weights."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextConfig, CLIPTextModel

        quiet(UNet2DConditionModel)
        quiet(CLIPTextModel)
        with torch.device("meta"):
            unet: Any = UNet2DConditionModel.from_config(configurations["unet"])
            vae: Any = AutoencoderKL.from_config(configurations["vae"])
            text_encoder = CLIPTextModel(CLIPTextConfig(**configurations["text_encoder"]))
        unet.to(memory_format=torch.channels_last)
        for model in (unet, vae, text_encoder):
            model.requires_grad_(False)
        return cls(unet, vae, text_encoder, None, None, card, name, train_text_encoder=train_text_encoder)

    @staticmethod
    def _read(folder: Path, name: str, part: str, allow_pickle: bool) -> Any:
        """The UNet, VAE or text encoder, in fp32 and frozen; from safetensors unless `allow_pickle`."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        kinds = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
        precision = "dtype" if part == "text_encoder" else "torch_dtype"  # as transformers and diffusers call it
        options: dict[str, Any] = {precision: torch.float32, "use_safetensors": None if allow_pickle else True}
        return load_model(kinds[part], folder / part, name, **options).eval().requires_grad_(False)

    def release(self, *parts: str) -> None:
        """Free frozen parts ("vae", "text_encoder"). The next access to one reads it again."""
        for part in parts:
            self.__dict__.pop(part, None)

    def __getattr__(self, name: str) -> Any:
        """Reads a released part again: the same weights from the same folder."""
        folder = self.__dict__.get("folder")
        if name not in self.frozen or folder is None:
            raise AttributeError(name)
        part = self._read(folder, self.name, name, self.allow_pickle).to(self.device)
        self.__dict__[name] = part
        return part

    @cached_property
    def backbone(self) -> StableDiffusionBackbone:
        """What adapters attach to: the UNet, with the text encoder if that trains too."""
        encoder = self.text_encoder if self.train_text_encoder else None
        return StableDiffusionBackbone(self.unet, tuple(self.card["targets"]), encoder)

    @property
    def device(self) -> torch.device:
        return self.unet.device

    @property
    def resolution(self) -> int:
        """The width and height in pixels that the UNet was trained on."""
        return trained_resolution(self.unet.config, self.vae.config)

    def check_resolution(self, resolution: int) -> int:
        """The resolution. Raises TaskError if latents cannot have it."""
        factor = latent_factor(self.vae)
        if resolution < factor or resolution % factor:
            raise TaskError(
                f"--task.resolution is {resolution}: this base needs a multiple of {factor}, for example "
                f"{max(factor, resolution // factor * factor)}"
            )
        return resolution

    def latent_shape(self, resolution: int) -> tuple[int, int, int]:
        """Channels, height and width of one picture's latents."""
        side = resolution // latent_factor(self.vae)
        return self.vae.config.latent_channels, side, side

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: "epsilon" (the noise) or "v_prediction" (the velocity)."""
        return self.scheduler.config.prediction_type

    def encode_text(self, captions: list[str]) -> Conditions:
        """The frozen text encoder's states, (n, positions, width)."""
        return {"encoder_hidden_states": encode_captions(self.text_encoder, self.tokenizer, captions)}

    def cut_captions(self, captions: list[str]) -> list[str]:
        """The captions that have more tokens than the text encoder reads."""
        return cut_captions(self.tokenizer, captions)

    def tokenize(self, captions: list[str]) -> Conditions:
        """Token ids (n, positions), for a denoiser that contains the text encoder."""
        return {"input_ids": tokenize(self.tokenizer, captions)}

    def zero_conditions(self, size: int, device: torch.device) -> Conditions:
        """Conditions of the largest shapes that `size` captions have; their contents are arbitrary."""
        text = self.text_encoder.config
        shape = (size, text.max_position_embeddings)
        if self.train_text_encoder:
            return {"input_ids": torch.zeros(shape, dtype=torch.long, device=device)}
        return {"encoder_hidden_states": torch.zeros(*shape, text.hidden_size, device=device)}

    def encode_images(self, pixels: Tensor) -> Tensor:
        """uint8 (n, 3, height, width) to the posterior's scaled moments (n, 2, channels, h, w): mean and deviation."""
        return encode_pictures(self.vae, pixels)

    def encode_batch(self, pixels: Tensor) -> Tensor:
        """`encode_images` in this process alone, for pictures that are encoded while training."""
        return encode_posterior(self.vae, pixels)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Scaled latents (n, channels, h, w) to pictures uint8 (n, 3, height, width)."""
        return decode_latents(self.vae, latents)

    def predict_noise(self, noisy: Tensor, timestep: Tensor, conditions: Conditions, model: Any = None) -> Tensor:
        """The prediction for noisy latents (n, channels, h, w) in fp32: the noise, or what `prediction_type` names.

        `model` is by default the backbone's.
        """
        noisy = noisy.to(self.device, memory_format=torch.channels_last)
        inputs = {name: tensor.to(self.device) for name, tensor in conditions.items()}
        model = self.backbone.model if model is None else model
        return model(noisy, timestep.to(self.device), **inputs).sample.float()

    def pipeline(self) -> Any:
        """A StableDiffusionPipeline over the loaded parts, with the solver that this project samples with."""
        from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

        pipeline_class: Any = StableDiffusionPipeline  # its signature forbids the None that its code allows
        pipeline = pipeline_class(
            vae=self.vae,
            text_encoder=self.text_encoder,
            tokenizer=self.tokenizer,
            unet=self.unet,
            scheduler=DPMSolverMultistepScheduler.from_config(self.scheduler.config),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline
