"""Resolve Stable Diffusion bases by name, folder or hub repository, and load them."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bundled import bundled_bases
from tasks.cache import digest, file_digest
from tasks.diffusion.model.cards import card_of
from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.published.shapes import STABLE_DIFFUSION, names, published
from tasks.pretrained.revision import folder_revision

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.model.stable_diffusion import StableDiffusion

INDEX = "model_index.json"  # names the pipeline class of a folder in diffusers' layout
WEIGHTS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
PICKLED = WEIGHTS | {"text_encoder": "pytorch_model"}
DESCRIPTIONS = [INDEX, "tokenizer/*", "*/config.json", "scheduler/*.json"]  # files without weights


@cache
def folder_of(base: str, allow_pickle: bool = False, weights: bool = True) -> Path:
    """The folder of a base: the bundled one, a local folder, or a download from the hub.

    `allow_pickle` also downloads weights in PyTorch's old format; without `weights`, only configurations. Raises
    TaskError if there is no such base.
    """
    if base == bundled_bases.STABLE_DIFFUSION:
        return bundled_bases.FOLDERS[base]
    known = published(base, STABLE_DIFFUSION)
    if known is None and Path(base).is_dir():
        return _checked(Path(base), base)
    if known is None and not hub.is_repository(base):
        raise TaskError(f"--task.base '{base}' is {_unknown(base)}")
    sources = [base] if known is None else known["hub"]
    files = _files(allow_pickle) if weights else DESCRIPTIONS
    return _checked(hub.fetch("--task.base", base, sources, files, "model").folder, base)


def _unknown(base: str) -> str:
    valid = [bundled_bases.STABLE_DIFFUSION, *names(STABLE_DIFFUSION)]
    near = difflib.get_close_matches(base, valid, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"neither one of {', '.join(valid)}{hint}, nor an existing folder in diffusers' layout, nor a hub repository "
        "such as 'org/name' or 'org/name@revision'"
    )


def _files(allow_pickle: bool) -> list[str]:
    """The files of a hub repository that make up a base; its other formats are gigabytes more."""
    files = [*DESCRIPTIONS, *(f"{part}/{name}.safetensors" for part, name in WEIGHTS.items())]
    return files + [f"{part}/{name}.bin" for part, name in PICKLED.items() if allow_pickle]


def _checked(folder: Path, base: str) -> Path:
    parts = model_class(folder, base).parts
    missing = [part for part in parts if not (folder / part).is_dir()]
    if missing:
        raise TaskError(
            f"--task.base '{base}': the folder {folder} has no {', '.join(missing)}; expected a Stable Diffusion in "
            f"diffusers' layout ({', '.join(parts)})"
        )
    return folder


def model_classes() -> Mapping[str, type[StableDiffusion]]:
    """The class of each supported kind of diffusion model, by the name of its pipeline in diffusers."""
    from tasks.diffusion.model.stable_diffusion import StableDiffusion

    return {kind.pipeline_class: kind for kind in (StableDiffusion,)}


def model_class(folder: Path, base: str) -> type[StableDiffusion]:
    """The class for the kind of diffusion model in a folder. Raises TaskError if no class supports it."""
    index, classes = folder / INDEX, model_classes()
    try:
        content = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
        pipeline = content.get("_class_name", "StableDiffusionPipeline")
    except (OSError, ValueError, AttributeError) as error:
        raise TaskError(f"--task.base '{base}': '{index}' cannot be read ({error}): save the pipeline again") from None
    if pipeline not in classes:
        raise TaskError(f"--task.base '{base}' is a {pipeline}, which is not supported; expected {', '.join(classes)}")
    return classes[pipeline]


def load(
    base: str, device: torch.device, allow_pickle: bool = False, train_text_encoder: bool = False
) -> StableDiffusion:
    """All parts in fp32 and frozen, from safetensors unless `allow_pickle`. Raises TaskError."""
    folder = folder_of(base, allow_pickle)
    kind = model_class(folder, base)
    return kind.load(folder, base, card_of(base), device, allow_pickle, train_text_encoder)


def load_meta(base: str, train_text_encoder: bool = False) -> StableDiffusion:
    """The models of a base on the meta device, from their configurations alone. Raises TaskError."""
    if published(base, STABLE_DIFFUSION) is None:
        kind = model_class(folder_of(base, weights=False), base)
    else:
        kind = model_classes()["StableDiffusionPipeline"]
    return kind.from_configurations(configurations(base), base, card_of(base), train_text_encoder)


def configurations(base: str) -> Mapping[str, Any]:
    """The configuration of each model: of a published base by name, or of a folder in diffusers' layout."""
    known = published(base, STABLE_DIFFUSION)
    if known is not None:
        return known
    folder = folder_of(base, weights=False)
    files = {part: folder / part / "config.json" for part in model_class(folder, base).models}
    missing = [part for part, file in files.items() if not file.is_file()]
    if missing:
        raise TaskError(f"--task.base '{base}': the folder {folder} has no {missing[0]}/config.json")
    return {part: json.loads(file.read_text()) for part, file in files.items()}


def parts_digest(folder: Path, *parts: str) -> str:
    """A digest of every file of these parts of a base, configurations included."""
    return digest(json.dumps([[part, folder_revision(folder / part, recursive=True)] for part in parts]).encode())


def weights_digest(folder: Path) -> str:
    """What records of schema 1 call a base's revision: a digest of its weights alone."""
    return file_digest(*sorted(file for file in folder.rglob("*") if file.suffix in (".safetensors", ".bin")))
