"""The bundled CLIPModel for the CLIP score, independent of the text encoder that conditions the UNet.

`python -m tasks.bundled.build scorer`, 50 to 70 minutes on one core.
"""

from pathlib import Path

import torch
from torch import Tensor

from tasks.bundled import pictures
from tasks.bundled.bundled_bases import SCORER
from tasks.bundled.pretraining import Recipe, pretrain
from tasks.bundled.recipes import contrastive
from tasks.diffusion.worlds.drawing import SIZE

RECIPE = Recipe(steps=6000, learning_rate=1e-3, weight_decay=0.05)
EXPECTED = "50 to 70 minutes on one core"
BATCH = (28, 28, 40)  # objects, creatures, icons


def build(target: Path, work: Path) -> dict:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor

    torch.manual_seed(1)
    sets = contrastive.training_sets()
    training = pictures.concatenated(sets)
    tokenizer = contrastive.train_tokenizer(training.captions)
    text = dict(hidden_size=128, intermediate_size=384, num_hidden_layers=3, num_attention_heads=4)
    text |= dict(max_position_embeddings=contrastive.POSITIONS, vocab_size=len(tokenizer))
    text |= {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    vision = dict(hidden_size=144, intermediate_size=432, num_hidden_layers=4, num_attention_heads=4)
    vision |= dict(image_size=SIZE, patch_size=8)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=128))
    tokens = contrastive.tokens_of(tokenizer, training.captions)
    probes = contrastive.probe_sets()

    def loss_of_step(step: int) -> Tensor:
        index = pictures.mixed_indices(step, [len(part) for part in sets], BATCH)
        output = model(pixel_values=training.scaled(index), **{name: value[index] for name, value in tokens.items()})
        captions = [training.captions[i] for i in index.tolist()]
        return contrastive.contrastive_loss(output.image_embeds, output.text_embeds, model.logit_scale, captions)

    def probe() -> dict[str, float]:
        results = {}
        for name, real in probes.items():
            inputs = contrastive.tokens_of(tokenizer, real.captions)
            output = model(pixel_values=real.scaled(slice(None)), **inputs)
            results[f"recall_at_1_of_200_{name}"] = contrastive.recall_at_1(
                output.image_embeds, output.text_embeds, real.captions
            )
        return results

    seconds = pretrain(model, loss_of_step, RECIPE, f"{training.digest} {BATCH}", work, probe)
    model.eval()
    with torch.no_grad():
        figures = probe()
    processor = CLIPImageProcessorPil(
        size={"height": SIZE, "width": SIZE}, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    model.half().save_pretrained(target / SCORER.name)
    CLIPProcessor(processor, tokenizer).save_pretrained(target / SCORER.name)
    return {"seconds": round(seconds), "parameters": sum(p.numel() for p in model.parameters())} | figures
