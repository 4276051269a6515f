"""Stable Diffusion XL (Podell et al. 2023, arXiv 2307.01952): what differs from Stable Diffusion 1 and 2."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tasks.diffusion.model.encoding import encode_distinct, tokenize
from tasks.diffusion.model.stable_diffusion import Conditions, StableDiffusion
from tasks.diffusion.model.two_text_encoders import encode_pair, without_last_layer

WINDOW = 6  # numbers that describe a crop


@dataclass
class StableDiffusionXL(StableDiffusion):
    """Two text encoders; their joined states, the second one's pooled state, and each picture's size before resizing,
    crop and target size condition the UNet."""

    pipeline_class: ClassVar[str] = "StableDiffusionXLPipeline"
    parts: ClassVar[tuple[str, ...]] = (*StableDiffusion.parts, "text_encoder_2", "tokenizer_2")
    models: ClassVar[tuple[str, ...]] = (*StableDiffusion.models, "text_encoder_2")
    text_encoders: ClassVar[tuple[str, ...]] = ("text_encoder", "text_encoder_2")
    frozen: ClassVar[tuple[str, ...]] = (*StableDiffusion.frozen, "text_encoder_2")
    conditioning: ClassVar[tuple[str, ...]] = (*StableDiffusion.conditioning, "text_encoder_2", "tokenizer_2")
    description_files: ClassVar[tuple[str, ...]] = (
        *StableDiffusion.description_files,
        "tokenizer_2/*",
        "text_encoder_2/config.json",
    )
    weight_files: ClassVar[tuple[str, ...]] = (*StableDiffusion.weight_files, "text_encoder_2/model.safetensors")
    pickle_files: ClassVar[tuple[str, ...]] = (*StableDiffusion.pickle_files, "text_encoder_2/pytorch_model.bin")

    text_encoder_2: Any = field(kw_only=True)  # CLIPTextModelWithProjection
    tokenizer_2: Any = field(kw_only=True)  # CLIPTokenizer
    zero_empty: bool = field(
        kw_only=True, default=True
    )  # sampling without a negative prompt takes zeros for its states

    @classmethod
    def kinds(cls) -> dict[str, Any]:
        from transformers import CLIPTextModelWithProjection

        return {**super().kinds(), "text_encoder_2": CLIPTextModelWithProjection}

    @classmethod
    def _read_others(cls, folder: Path, name: str) -> dict[str, Any]:
        index = folder / "model_index.json"
        settings = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
        return {
            **super()._read_others(folder, name),
            "tokenizer_2": cls.load_tokenizer(folder, name, "tokenizer_2", "text_encoder_2"),
            "zero_empty": bool(settings.get("force_zeros_for_empty_prompt", True)),
        }

    def encode_text(self, captions: list[str]) -> Conditions:
        """The frozen text encoders' joined states (n, positions, width) and the second's pooled ones (n, width)."""
        return encode_distinct(captions, self._encode)

    @torch.no_grad()
    def _encode(self, captions: list[str]) -> Conditions:
        ids = [tokens.to(self.device) for tokens in self.tokenize(captions).values()]
        states, pooled = encode_pair(without_last_layer(self.text_encoder), self.text_encoder_2, *ids)
        return {"encoder_hidden_states": states.float().cpu(), "text_embeds": pooled.float().cpu()}

    def tokenize(self, captions: list[str]) -> Conditions:
        """Token ids of each text encoder, (n, positions)."""
        return {**super().tokenize(captions), "input_ids_2": tokenize(self.tokenizer_2, captions)}

    def view_conditions(self, windows: Tensor) -> Conditions:
        """Size before resizing, crop and target size (n, 6), as `time_ids` (section 2.2 of the paper)."""
        return {"time_ids": windows.float()}

    def zero_conditions(self, size: int, device: torch.device) -> Conditions:
        views = {"time_ids": torch.zeros(size, WINDOW, device=device)}
        first, second = self.text_encoder.config, self.text_encoder_2.config
        shape = (size, min(first.max_position_embeddings, second.max_position_embeddings))
        if self.train_text_encoder:
            ids = torch.zeros(shape, dtype=torch.long, device=device)
            return {"input_ids": ids, "input_ids_2": ids.clone(), **views}
        states = torch.zeros(*shape, first.hidden_size + second.hidden_size, device=device)
        return {
            "encoder_hidden_states": states,
            "text_embeds": torch.zeros(size, second.projection_dim, device=device),
            **views,
        }

    @classmethod
    def pipeline_options(cls, zero_empty: bool = True) -> dict[str, Any]:
        return {"force_zeros_for_empty_prompt": zero_empty, "add_watermarker": False}
