"""A CLIP that scores pictures against captions, apart from the text encoder that conditions the UNet."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from tasks.diffusion.evaluation.features import source_digest
from tasks.distributed import map_across_ranks

BATCH = 250


class ClipScorer:
    """A CLIPModel with its processor from `source`: a folder or a hub name."""

    def __init__(self, source: str, name: str, device: torch.device):
        from transformers import CLIPModel, CLIPProcessor

        self.name = name
        model: Any = CLIPModel.from_pretrained(source, dtype=torch.float32, use_safetensors=True)
        self.model = model.to(device).eval()
        self.processor: Any = CLIPProcessor.from_pretrained(source, backend="pil")
        self.digest = source_digest(source, model.config)

    @torch.no_grad()
    def scores(self, pixels: Tensor, captions: list[str]) -> np.ndarray:
        """CLIP scores (n,) of pictures uint8 (n, 3, height, width): 100 x cosine, at least 0, as in torchmetrics."""

        def cosines(start: int) -> Tensor:
            part = slice(start, start + BATCH)
            inputs = self.processor(
                text=captions[part], images=list(pixels[part]), padding=True, truncation=True, return_tensors="pt"
            ).to(self.model.device)
            output = self.model(**inputs)
            return (output.image_embeds * output.text_embeds).sum(dim=-1).cpu()

        return (100 * torch.cat(map_across_ranks(range(0, len(captions), BATCH), cosines))).clamp(min=0).numpy()

    @torch.no_grad()
    def caption_embeddings(self, captions: list[str]) -> Tensor:
        """Text embeddings (n, d), on the CPU."""
        inputs = self.processor(text=captions, padding=True, truncation=True, return_tensors="pt").to(self.model.device)
        return self.model.text_projection(self.model.text_model(**inputs).pooler_output).cpu()

    @torch.no_grad()
    def embeddings(self, pixels: Tensor) -> Tensor:
        """Image embeddings (n, d), on the CPU, of pictures uint8 (n, 3, height, width)."""
        embeddings = []
        for part in pixels.split(BATCH):
            inputs = self.processor(images=list(part), return_tensors="pt").to(self.model.device)
            embeddings.append(self.model.visual_projection(self.model.vision_model(**inputs).pooler_output).cpu())
        return torch.cat(embeddings)
