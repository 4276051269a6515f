"""A classifier of the drawn worlds' attributes, to check whether a picture shows what its prompt says."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import Attributes
from tasks.diffusion.worlds.objects import Objects

HEADS = {f"objects.{name}": values for name, values in Objects.attributes.items()}
HEADS |= {f"creatures.{name}": values for name, values in Creatures.attributes.items()}


class AttributeClassifier(nn.Module):
    """Maps pictures uint8 (n, 3, 64, 64) to logits of each attribute of each drawn world."""

    name = "bundled-attribute-classifier"

    def __init__(self, width: int = 32):
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 4 * width]
        self.blocks = nn.Sequential(
            *[
                nn.Sequential(
                    nn.Conv2d(a, b, 3, stride=2, padding=1),
                    nn.GroupNorm(8, b),
                    nn.SiLU(),
                    nn.Conv2d(b, b, 3, padding=1),
                    nn.GroupNorm(8, b),
                    nn.SiLU(),
                )
                for a, b in itertools.pairwise(channels)
            ]
        )
        self.hidden = nn.Sequential(nn.Linear(channels[-1] * 16, 256), nn.SiLU())
        # names of modules cannot contain dots
        self.heads = nn.ModuleDict({name.replace(".", "_"): nn.Linear(256, len(v)) for name, v in HEADS.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        hidden = self.hidden(self.blocks(pictures.float() / 127.5 - 1).flatten(1))
        return {name: self.heads[name.replace(".", "_")](hidden) for name in HEADS}

    @torch.no_grad()
    def predict(self, pictures: Tensor, world: str) -> list[Attributes]:
        """The most likely attributes of `world` ("objects" or "creatures") in each picture."""
        chosen = {name: logits.argmax(dim=1).tolist() for name, logits in self(pictures).items()}
        heads = [name for name in HEADS if name.startswith(world)]
        return [{name.split(".")[1]: HEADS[name][chosen[name][i]] for name in heads} for i in range(len(pictures))]

    @classmethod
    def load(cls, folder: Path) -> "AttributeClassifier":
        from safetensors.torch import load_file

        classifier = cls()
        classifier.load_state_dict({k: v.float() for k, v in load_file(folder / "model.safetensors").items()})
        return classifier.eval().requires_grad_(False)


def agreement(first: Sequence[Attributes], second: Sequence[Attributes]) -> dict[str, float]:
    """The share of equal values, by attribute."""
    pairs = [*zip(first, second, strict=True)]
    return {name: round(sum(a[name] == b[name] for a, b in pairs) / len(pairs), 4) for name in first[0]}
