"""Stable Diffusion 1 and 2: everything that is particular to this kind of diffusion model.

Another kind (`stable_diffusion_xl`) is one more class with the same methods, listed in `bases.model_classes`: it names
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
    decode_slices,
    encode_captions,
    encode_pictures,
    encode_posterior,
    latent_factor,
    tokenize,
    trained_resolution,
)
from tasks.errors import TaskError
from tasks.pretrained.loading import check_vocabulary, load_data_only, load_model, quiet
from tasks.pretrained.precision import QUANTISED, BasePrecision, loaded_dtype, loading_options

Conditions = dict[str, Tensor]  # what the denoiser takes beside noisy latents and timesteps, one row per picture


@dataclass
class StableDiffusion:
    """The parts of a StableDiffusionPipeline on one device, frozen, and the base's card.

    Weights have the base's `precision`, except the VAE's: they are in fp32, which the activations of SDXL's need.

    The parts are typed `Any`: diffusers creates their attributes (config, device, ...) at run time. `folder` is None
    for a model on the meta device, which has no tokenizer and no scheduler.
    """

    pipeline_class: ClassVar[str] = "StableDiffusionPipeline"
    parts: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
    models: ClassVar[tuple[str, ...]] = ("unet", "vae", "text_encoder")
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder",)
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
    precision: BasePrecision = "fp32"
    zero_empty: bool = False  # sampling without a negative prompt takes zeros for its text states

    @classmethod
    def load(
        cls,
        folder: Path,
        name: str,
        card: dict[str, Any],
        device: torch.device,
        allow_pickle: bool = False,
        train_text_encoder: bool = False,
        precision: BasePrecision = "fp32",
    ) -> Self:
        """All parts from a folder in diffusers' layout. Raises TaskError if one is broken."""
        models = {part: cls._read(folder, name, part, allow_pickle, precision, device) for part in cls.models}
        if precision not in QUANTISED:
            models["unet"].to(memory_format=torch.channels_last)
        rest: dict[str, Any] = {"folder": folder, "allow_pickle": allow_pickle, "precision": precision}
        rest["train_text_encoder"] = train_text_encoder
        return cls(**models, **cls._read_others(folder, name), card=card, name=name, **rest)

    @classmethod
    def _read_others(cls, folder: Path, name: str) -> dict[str, Any]:
        """The parts without weights. Raises TaskError."""
        from diffusers import DDPMScheduler

        scheduler = load_data_only(DDPMScheduler, folder / "scheduler", name)
        return {"tokenizer": cls.load_tokenizer(folder, name), "scheduler": scheduler}

    @staticmethod
    def load_tokenizer(folder: Path, name: str, part: str = "tokenizer", encoder: str = "text_encoder") -> Any:
        """A tokenizer, whose `model_max_length` is what its text encoder reads. Raises TaskError."""
        from transformers import CLIPTextConfig, CLIPTokenizer

        tokenizer = load_data_only(CLIPTokenizer, folder / part, name)
        config = load_data_only(CLIPTextConfig, folder / encoder, name)
        check_vocabulary(tokenizer, config.vocab_size, name)
        tokenizer.model_max_length = min(tokenizer.model_max_length, config.max_position_embeddings)
        return tokenizer

    @classmethod
    def from_configurations(
        cls, configurations: Mapping[str, Any], name: str, card: dict[str, Any], train_text_encoder: bool = False
    ) -> Self:
        """The models on the meta device, from the `config.json` of each: shapes without weights."""
        models = {}
        for part, kind in cls.kinds().items():
            quiet(kind)
            with torch.device("meta"):
                if part in cls.text_encoders:
                    models[part] = kind(kind.config_class(**configurations[part]))
                else:
                    models[part] = kind.from_config(configurations[part])
            models[part].requires_grad_(False)
        models["unet"].to(memory_format=torch.channels_last)
        absent: dict[str, Any] = dict.fromkeys(set(cls.parts) - set(cls.models))
        return cls(**models, **absent, card=card, name=name, train_text_encoder=train_text_encoder)

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        """The class of each model, of diffusers or transformers."""
        from diffusers import AutoencoderKL, UNet2DConditionModel
        from transformers import CLIPTextModel

        return {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}

    @classmethod
    def _read(
        cls, folder: Path, name: str, part: str, allow_pickle: bool, precision: BasePrecision, device: torch.device
    ) -> Any:
        """One of the models, frozen; from safetensors unless `allow_pickle`. Of a quantised base, the UNet alone is
        quantised; the text encoders have the dtype that it computes in.
        """
        import diffusers

        quantised = precision in QUANTISED and part == "unet"
        stored = loaded_dtype("fp32" if part == "vae" else precision, device)
        dtype = "dtype" if part in cls.text_encoders else "torch_dtype"  # as transformers and diffusers call it
        options: dict[str, Any] = {dtype: stored, "use_safetensors": None if allow_pickle else True}
        if quantised:
            options |= loading_options(precision, device, diffusers.BitsAndBytesConfig)
        model = load_model(cls.kinds()[part], folder / part, name, **options).eval().requires_grad_(False)
        return model if quantised else model.to(device)

    def release(self, *parts: str) -> None:
        """Free frozen parts (the VAE, text encoders). The next access to one reads it again."""
        for part in parts:
            self.__dict__.pop(part, None)

    def __getattr__(self, name: str) -> Any:
        """Reads a released part again: the same weights from the same folder."""
        folder = self.__dict__.get("folder")
        if name not in self.frozen or folder is None:
            raise AttributeError(name)
        part = self._read(folder, self.name, name, self.allow_pickle, self.precision, self.device)
        self.__dict__[name] = part
        return part

    @cached_property
    def backbone(self) -> StableDiffusionBackbone:
        """What adapters attach to: the UNet, with the text encoder if that trains too."""
        encoders = {part: getattr(self, part) for part in self.text_encoders if self.train_text_encoder}
        return StableDiffusionBackbone(self.unet, tuple(self.card["targets"]), **encoders)

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

    def empty_conditions(self, encoded: Conditions) -> Conditions:
        """The conditions of a dropped caption, given those of the empty one: what sampling without a prompt takes.

        If text encoders train, the empty caption's ids, as in diffusers' scripts.
        """
        if self.train_text_encoder or not self.zero_empty:
            return encoded
        return {name: torch.zeros_like(tensor) for name, tensor in encoded.items()}

    def view_conditions(self, windows: Tensor) -> Conditions:
        """Conditions on the crop of each training picture, from `Augmentation.windows` (n, 6)."""
        return {}

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

    def decode_batch(self, latents: Tensor) -> Tensor:
        """`decode_latents` in this process alone, for pictures that are sampled in several processes."""
        return decode_slices(self.vae, latents)

    def predict_noise(self, noisy: Tensor, timestep: Tensor, conditions: Conditions, model: Any = None) -> Tensor:
        """The prediction for noisy latents (n, channels, h, w) in fp32: the noise, or what `prediction_type` names.

        `model` is by default the backbone's.
        """
        noisy = noisy.to(self.device, memory_format=torch.channels_last)
        inputs = {name: tensor.to(self.device) for name, tensor in conditions.items()}
        model = self.backbone.model if model is None else model
        with self.backbone.computing():
            return model(noisy, timestep.to(self.device), **inputs).sample.float()

    def pipeline(self) -> Any:
        """diffusers' pipeline over the loaded parts, with the solver that this project samples with."""
        import diffusers

        kind: Any = getattr(diffusers, self.pipeline_class)
        scheduler = diffusers.DPMSolverMultistepScheduler.from_config(self.scheduler.config)
        parts = {part: getattr(self, part) for part in self.parts} | {"scheduler": scheduler}
        pipeline = kind(**parts, **self.pipeline_options(self.zero_empty))
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    @classmethod
    def pipeline_options(cls, zero_empty: bool = True) -> dict[str, Any]:
        """The pipeline's arguments that are not parts of the base."""
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
