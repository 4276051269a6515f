"""The bundled attribute classifier, trained on both drawn worlds with the blur and noise of generated pictures.

`python -m tasks.bundled.build classifier`, 7 to 12 minutes on one core.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import CLASSIFIER
from tasks.bundled.pretraining import Recipe, channels_last, pretrain
from tasks.diffusion.evaluation.attributes import HEADS, AttributeClassifier, agreement
from tasks.diffusion.worlds.drawing import SIZE

RECIPE = Recipe(steps=1500, learning_rate=2e-3)
EXPECTED = "7 to 12 minutes on one core"
BATCH = 64  # of each world


def build(target: Path, work: Path) -> dict:
    from safetensors.torch import save_file

    torch.manual_seed(2)
    model = channels_last(AttributeClassifier())
    worlds = {"objects": pictures.objects(12_000), "creatures": pictures.creatures(12_000, held_out=None)}
    probes = {
        "objects": pictures.objects(1000, pictures.PROBE_SEED),
        "creatures": pictures.creatures(1000, pictures.PROBE_SEED, True),
    }
    labels = {name: _labels(name, worlds[name.split(".")[0]]) for name in HEADS}

    def loss_of_step(step: int) -> Tensor:
        total = torch.zeros(())
        for world, real in worlds.items():
            index = pictures.batch_indices(step, len(real), BATCH)
            logits = model(_spoil(real.pixels[index]))
            heads = [name for name in HEADS if name.startswith(world)]
            total = total + sum(F.cross_entropy(logits[name].float(), labels[name][index]) for name in heads)
        return total

    def probe() -> dict[str, float]:
        results = {}
        for world, real in probes.items():
            shares = agreement(model.predict(real.pixels, world), real.attributes)
            results |= {f"accuracy_{world}_{name}": share for name, share in shares.items()}
        return results

    inputs = f"{pictures.concatenated([*worlds.values()]).digest} {BATCH}"
    seconds = pretrain(model, loss_of_step, RECIPE, inputs, work, probe)
    model.eval()
    folder = target / CLASSIFIER.name
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.half().contiguous() for k, v in model.state_dict().items()}, folder / "model.safetensors")
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in model.parameters())} | probe()


def _labels(head: str, real: pictures.PictureSet) -> Tensor:
    number = {value: i for i, value in enumerate(HEADS[head])}
    return torch.tensor([number[attributes[head.split(".")[1]]] for attributes in real.attributes])


def _spoil(pixels: Tensor) -> Tensor:
    """Add random blur, noise and a shift of up to four pixels, drawn once per batch."""
    real = pixels.float()
    kernel = torch.rand(1).item() * 0.15
    blur = torch.tensor([kernel, 1 - 2 * kernel, kernel])
    weight = (blur[:, None] * blur[None, :]).expand(3, 1, 3, 3)
    real = F.conv2d(F.pad(real, (1, 1, 1, 1), mode="replicate"), weight, groups=3)
    dx, dy = torch.randint(0, 9, (2,)).tolist()
    real = F.pad(real, (4, 4, 4, 4), mode="replicate")[:, :, dy : dy + SIZE, dx : dx + SIZE]
    noisy = real + torch.randn_like(real) * torch.rand(len(real), 1, 1, 1) * 16
    return noisy.clamp(0, 255).to(memory_format=torch.channels_last)
