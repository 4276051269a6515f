"""Write a published model's folder with random weights: its sizes and file layout, for proofs where no hub is.

`python -m tasks.pretrained.published.write sd-2-1 FOLDER`. Everything but the weights' values and the tokenizer's words
is the published model's, so what costs memory and time there costs it here.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.pretrained.published.shapes import LANGUAGE_MODEL, STABLE_DIFFUSION, names, published

DEPTHS = {"layers_per_block": 1, "num_hidden_layers": 2, "n_layer": 2}  # of a model reduced in depth only
PRECISIONS = ("fp32", "fp16")
VOCABULARY = 1000  # of the tokenizer made for a language model; the model's own may be larger


def write(base: str, folder: Path, precision: str = "fp32", shallow: bool = False, seed: int = 0) -> None:
    """The folder of a published base: of diffusers' layout for a Stable Diffusion, of transformers' for the others.

    `shallow` keeps every width and takes the fewest layers. Raises LookupError for an unknown base.
    """
    import torch

    torch.manual_seed(seed)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    parts = published(base, STABLE_DIFFUSION)
    if parts is not None:
        return _write_stable_diffusion(parts, folder, dtype, shallow)
    whole = published(base, LANGUAGE_MODEL)
    if whole is None:
        known = [*names(LANGUAGE_MODEL), *names(STABLE_DIFFUSION)]
        raise LookupError(f"there is no published base '{base}'; they are {', '.join(known)}")
    _write_language_model(whole["config"], folder, dtype, shallow)


def _write_stable_diffusion(parts: dict[str, Any], folder: Path, dtype: Any, shallow: bool) -> None:
    """The words are those of the bundled tokenizer: their numbers are valid in any CLIP's larger vocabulary."""
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    from tasks.diffusion.model.bases import BUNDLED

    positions = parts["text_encoder"]["max_position_embeddings"]
    text_encoder: Any = CLIPTextModel(CLIPTextConfig(**_reduced(parts["text_encoder"], shallow)))
    kind: Any = StableDiffusionPipeline  # its signature forbids the missing checker that its code allows
    unet: Any = UNet2DConditionModel.from_config(_reduced(parts["unet"], shallow))
    vae: Any = AutoencoderKL.from_config(_reduced(parts["vae"], shallow))
    pipeline = kind(
        unet=unet.to(dtype),
        vae=vae.to(dtype),
        text_encoder=text_encoder.to(dtype),
        tokenizer=CLIPTokenizer.from_pretrained(BUNDLED / "mini" / "tokenizer", model_max_length=positions),
        scheduler=DDPMScheduler.from_config(parts["scheduler"]),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)


def _write_language_model(config: dict[str, Any], folder: Path, dtype: Any, shallow: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from tasks.bundled.text import drawn_documents, train_tokenizer

    values = _reduced(config, shallow)
    made = AutoConfig.for_model(values.pop("model_type"), **values)
    tokenizer = train_tokenizer(islice(drawn_documents(0, 300), 300), VOCABULARY, made.max_position_embeddings)
    made.bos_token_id = made.eos_token_id = tokenizer.eos_token_id
    AutoModelForCausalLM.from_config(made).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _reduced(config: dict[str, Any], shallow: bool) -> dict[str, Any]:
    return config | {name: least for name, least in DEPTHS.items() if shallow and name in config}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.pretrained.published.write", description=__doc__)
    parser.add_argument("base", choices=[*names(STABLE_DIFFUSION), *names(LANGUAGE_MODEL)])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--precision", choices=PRECISIONS, default="fp32", help="of the files (training takes fp32)")
    parser.add_argument("--shallow", action="store_true", help="all widths, but as few layers as can be")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.base, arguments.folder, arguments.precision, arguments.shallow, arguments.seed)


if __name__ == "__main__":
    main()
