"""The bundled text encoder and tokenizer: a CLIPTextModel, trained with an image tower that is then discarded.

`python -m tasks.bundled.build text-encoder`, 4 to 10 minutes on one core.
"""

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.bundled.pretraining import Recipe, channels_last, pretrain
from tasks.bundled.recipes import contrastive

RECIPE = Recipe(steps=2000, learning_rate=1.2e-3)
EXPECTED = "4 to 10 minutes on one core"
BATCH = (32, 32, 32)  # objects, creatures, icons
WIDTH = 128


class PictureTower(nn.Module):
    """A small CNN: pictures (n, 3, 64, 64) to (n, width)."""

    def __init__(self, width: int):
        super().__init__()
        channels = [3, 32, 64, 128, 192]
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(a, b, 3, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU())
                for a, b in itertools.pairwise(channels)
            ]
        )
        self.project = nn.Linear(channels[-1] * 16, width)

    def forward(self, scaled: Tensor) -> Tensor:
        return self.project(self.blocks(scaled).flatten(1))


class TextWithPictures(nn.Module):
    def __init__(self, text: Any):
        super().__init__()
        self.text = text
        self.pictures = channels_last(PictureTower(WIDTH))
        self.scale = nn.Parameter(torch.tensor(2.659))

    def text_features(self, tokens: dict[str, Tensor]) -> Tensor:
        return self.text(**tokens).pooler_output


def build(target: Path, work: Path) -> dict:
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    sets = contrastive.training_sets()
    training = pictures.concatenated(sets)
    tokenizer = contrastive.train_tokenizer(training.captions)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=contrastive.POSITIONS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = TextWithPictures(CLIPTextModel(config))
    tokens = contrastive.tokens_of(tokenizer, training.captions)
    probes = contrastive.probe_sets()

    def loss_of_step(step: int) -> Tensor:
        index = pictures.mixed_indices(step, [len(part) for part in sets], BATCH)
        text = model.text_features({name: value[index] for name, value in tokens.items()})
        captions = [training.captions[i] for i in index.tolist()]
        return contrastive.contrastive_loss(model.pictures(training.scaled(index)), text, model.scale, captions)

    def probe() -> dict[str, float]:
        results = {}
        for name, real in probes.items():
            text = model.text_features(contrastive.tokens_of(tokenizer, real.captions))
            results[f"recall_at_1_of_200_{name}"] = contrastive.recall_at_1(
                model.pictures(real.scaled(slice(None))), text, real.captions
            )
        return results

    seconds = pretrain(model, loss_of_step, RECIPE, f"{training.digest} {BATCH}", work, probe)
    model.eval()
    with torch.no_grad():
        figures = probe()
    text: Any = model.text
    folder = target / STABLE_DIFFUSION / "text_encoder"
    text.half().save_pretrained(folder)
    text.config.dtype = torch.float32  # which transformers then loads, as diffusers does for the UNet and the VAE
    text.config.save_pretrained(folder)
    tokenizer.save_pretrained(target / STABLE_DIFFUSION / "tokenizer")
    parameters = sum(p.numel() for p in model.text.parameters())
    return {"seconds": round(seconds), "parameters": parameters} | figures
