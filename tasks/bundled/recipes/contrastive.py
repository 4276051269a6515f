"""Contrastive pretraining of captions and pictures (CLIP, Radford et al. 2021): loss, evaluation, tokenizer."""

import string

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.icon_pictures import icon_pictures
from tasks.bundled.icons import held_out_names, trained_names
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.objects import Objects

VOCABULARY = 2000
POSITIONS = 32


def training_sets() -> list[pictures.PictureSet]:
    """Objects, creatures and icons."""
    icons = icon_pictures(trained_names(), pictures.TRAIN_SEED, copies=4)
    return [pictures.objects(12_000), pictures.creatures(12_000, held_out=None), icons]


def train_tokenizer(captions: list[str]):
    """A CLIPTokenizer (byte-pair encoding, end-of-word suffix) of `VOCABULARY` entries, with all digits and signs.

    An unknown sign would be read as the end of the caption.
    """
    from transformers import CLIPTokenizer

    signs = string.punctuation + string.digits
    empty = CLIPTokenizer(model_max_length=POSITIONS)
    trained = empty.train_new_from_iterator([*captions, *signs], VOCABULARY, initial_alphabet=[])
    trained.model_max_length = POSITIONS
    return trained


def tokens_of(tokenizer, captions: list[str]) -> dict[str, Tensor]:
    return dict(tokenizer(captions, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt"))


def contrastive_loss(picture: Tensor, text: Tensor, scale: Tensor, captions: list[str]) -> Tensor:
    """Symmetric cross-entropy over a batch (n, width); pictures with the same caption share their target."""
    picture, text = F.normalize(picture.float(), dim=-1), F.normalize(text.float(), dim=-1)
    logits = scale.exp().clamp(max=100) * picture @ text.T
    same = torch.tensor([[a == b for b in captions] for a in captions], dtype=torch.float)
    target = same / same.sum(dim=1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def probe_sets() -> dict[str, pictures.PictureSet]:
    """New pictures: 1,000 per world with captions that state every attribute, and icons with their names alone.

    Training saw the icons on other backgrounds, and nothing of the held-out ones.
    """
    return {
        "objects": pictures.drawn(Objects(), 1000, pictures.PROBE_SEED, full_caption=True),
        "creatures": pictures.drawn(Creatures(), 1000, pictures.PROBE_SEED, True, full_caption=True),
        "icons": icon_pictures(trained_names(), pictures.PROBE_SEED, named=True).part(slice(None, None, 5)),
        "held_out_icons": icon_pictures(held_out_names(), pictures.PROBE_SEED, named=True),
    }


def recall_at_1(picture: Tensor, text: Tensor, captions: list[str], candidates: int = 200) -> float:
    """Share of pictures whose own caption scores highest among `candidates`; equal captions count as its own.

    The candidates are random parts of all captions; a last part of fewer is left out. Raises ValueError if there are
    fewer captions than candidates.
    """
    if len(captions) < candidates:
        raise ValueError(f"expected at least {candidates} captions to choose from, not {len(captions)}")
    order = torch.randperm(len(captions), generator=torch.Generator().manual_seed(0))
    parts = [part for part in order.split(candidates) if len(part) == candidates]
    hits = 0
    for part in parts:
        best = (F.normalize(picture[part], dim=-1) @ F.normalize(text[part], dim=-1).T).argmax(dim=1)
        hits += sum(captions[i] == captions[j] for i, j in zip(part.tolist(), part[best].tolist(), strict=True))
    return round(hits / (candidates * len(parts)), 4)
