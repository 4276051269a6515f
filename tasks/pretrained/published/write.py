"""Write a published model with random weights, to test memory, speed and file layout without a hub.

`python -m tasks.pretrained.published.write sd-2-1 FOLDER`. Sizes and layout are those of the published model; only the
weights' values and the tokenizer's vocabulary differ, so memory and time cost what they cost there.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from experiments.cli.errors import command, stop
from experiments.cli.parser import parse_options
from tasks.bundled import bundled_bases
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, STABLE_DIFFUSION, names, published

FEWEST_LAYERS = {"layers_per_block": 1, "num_hidden_layers": 2, "n_layer": 2, "transformer_layers_per_block": 1}
VOCABULARY = 1000  # of a language model's tokenizer; the model's own vocabulary may be larger


def write(
    base: str,
    folder: Path,
    precision: Literal["fp32", "fp16"] = "fp32",
    shallow: bool = False,
    seed: int = 0,
) -> None:
    """Write a published base with random weights, in diffusers' or transformers' layout.

    `precision` is that of the files; training loads them in fp32. `shallow` keeps every width but uses the fewest
    layers. Raises LookupError for an unknown base.
    """
    import torch

    torch.manual_seed(seed)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}[precision]
    parts = published(base, STABLE_DIFFUSION)
    if parts is not None:
        return _write_stable_diffusion(parts, folder, dtype, shallow)
    model = published(base, LANGUAGE_MODEL)
    if model is None:
        known = [*names(LANGUAGE_MODEL), *names(STABLE_DIFFUSION)]
        raise LookupError(f"unknown published base '{base}': choose one of {', '.join(known)}")
    _write_language_model(model["config"], folder, dtype, shallow)


def _write_stable_diffusion(parts: dict[str, Any], folder: Path, dtype: Any, shallow: bool) -> None:
    """Uses the bundled tokenizer, whose token ids are valid in any CLIP's larger vocabulary."""
    import diffusers
    from transformers import CLIPTokenizer

    from tasks.diffusion.model.bases import model_classes

    base = model_classes()[parts["pipeline"]]
    source = bundled_bases.FOLDERS[bundled_bases.STABLE_DIFFUSION] / "tokenizer"
    written: dict[str, Any] = {"scheduler": diffusers.DDPMScheduler.from_config(parts["scheduler"])}
    for part, kind in base.kinds().items():
        config = _reduced(parts[part], shallow)
        is_text = part in base.text_encoders
        model = kind(kind.config_class(**config)) if is_text else kind.from_config(config)
        written[part] = model.to(dtype)
        if is_text:
            tokenizer = CLIPTokenizer.from_pretrained(source, model_max_length=config["max_position_embeddings"])
            written[part.replace("text_encoder", "tokenizer")] = tokenizer
    pipeline: Any = getattr(diffusers, parts["pipeline"])
    pipeline(**written, **base.pipeline_options()).save_pretrained(folder)


def _write_language_model(config: dict[str, Any], folder: Path, dtype: Any, shallow: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    from tasks.bundled.text import drawn_documents, train_tokenizer

    values = _reduced(config, shallow)
    model_config = AutoConfig.for_model(values.pop("model_type"), **values)
    documents = islice(drawn_documents(0, 300), 300)
    tokenizer = train_tokenizer(documents, VOCABULARY, model_config.max_position_embeddings)
    model_config.bos_token_id = model_config.eos_token_id = tokenizer.eos_token_id
    AutoModelForCausalLM.from_config(model_config).to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _reduced(config: dict[str, Any], shallow: bool) -> dict[str, Any]:
    return config | {name: layers for name, layers in FEWEST_LAYERS.items() if shallow and name in config}


@dataclass(frozen=True)
class WriteOptions:
    """Write a published model with random weights."""

    base: Annotated[str, tyro.conf.Positional]
    """Name of the published base."""
    folder: Annotated[Path, tyro.conf.Positional]
    """Folder to write it to."""
    precision: Literal["fp32", "fp16"] = "fp32"
    """Precision of the files."""
    shallow: bool = False
    """Keep every width but use the fewest layers."""
    seed: int = 0
    """Seed of the random weights."""


def main() -> None:
    options = parse_options(WriteOptions, sys.argv[1:], "python -m tasks.pretrained.published.write")
    known = [*names(LANGUAGE_MODEL), *names(STABLE_DIFFUSION)]
    if options.base not in known:
        stop(f"unknown base '{options.base}'; the published bases are {', '.join(known)}")
    if options.folder.is_file():
        stop(f"'{options.folder}' is a file; expected a folder")
    write(options.base, options.folder, options.precision, options.shallow, options.seed)


if __name__ == "__main__":
    command(main)
