"""Resolve Stable Diffusion bases by name, folder or hub repository, and load them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bundled import bundled_bases
from tasks.cache import digest
from tasks.diffusion.model.cards import INDEX, card_of, pipeline_in
from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.precision import BasePrecision, compute_of
from tasks.pretrained.published.shapes import STABLE_DIFFUSION, did_you_mean, names, published
from tasks.pretrained.revision import folder_revision

if TYPE_CHECKING:
    import torch

    from tasks.diffusion.model.stable_diffusion import StableDiffusion


@dataclass(frozen=True)
class Source:
    """Where diffusers loads a base from: a folder, and the hub's commit if it is a download."""

    folder: Path
    commit: str | None = None


@cache
def find_source(base: str, allow_pickle: bool = False, weights: bool = True) -> Source:
    """Locate a base's files: the bundled ones, a local folder, or a download from the hub.

    `allow_pickle` also downloads weights in PyTorch's old format; without `weights`, only configurations. Raises
    TaskError if there is no such base.
    """
    if base == bundled_bases.STABLE_DIFFUSION:
        return Source(bundled_bases.FOLDERS[base])
    known = published(base, STABLE_DIFFUSION)
    if known is None and Path(base).is_dir():
        return Source(_checked(Path(base), base))
    check_name(base)
    kind = _class_on_the_hub(base) if known is None else _supported(known["pipeline"], base)
    files = _files(kind, allow_pickle) if weights else [INDEX, *kind.description_files]
    sources = [base] if known is None else known["hub"]
    snapshot = hub.fetch("--task.base", base, sources, files, "model")
    return Source(_checked(snapshot.folder, base), snapshot.revision)


def check_name(base: str) -> None:
    """Raise TaskError if this is neither a known name nor a folder, and not of the form of a hub repository."""
    known = base == bundled_bases.STABLE_DIFFUSION or published(base, STABLE_DIFFUSION) is not None
    if not known and not Path(base).is_dir() and not hub.is_repository(base):
        raise TaskError(f"--task.base '{base}'{_unknown(base)}")


def folder_of(base: str, allow_pickle: bool = False, weights: bool = True) -> Path:
    """The folder of a base, as `find_source` locates it. Raises TaskError."""
    return find_source(base, allow_pickle, weights).folder


def revision_of(base: str, allow_pickle: bool = False) -> str:
    """The hub's commit of a base, or a digest of the files that are loaded from its folder. Raises TaskError."""
    source = find_source(base, allow_pickle)
    if source.commit is not None:
        return source.commit
    if base == bundled_bases.STABLE_DIFFUSION:  # all of its files are read; no model library is imported
        return folder_revision(source.folder)
    kind = model_class(source.folder, base)
    return folder_revision(source.folder, _files(kind, allow_pickle))


def _with_shards(file: str) -> tuple[str, ...]:
    """A file, or the shards that large weights are saved as."""
    stem, dot, suffix = file.rpartition(".")
    return file, f"{file}.index.json", f"{stem}-?????-of-?????{dot}{suffix}"


def _class_on_the_hub(repository: str) -> type[StableDiffusion]:
    """The class that a repository's index names; nothing else is fetched."""
    return model_class(hub.fetch("--task.base", repository, [repository], [INDEX], "model").folder, repository)


def _files(kind: type[StableDiffusion], allow_pickle: bool) -> list[str]:
    """The files of a hub repository that make up a base; its other formats are gigabytes more."""
    weights = (*kind.weight_files, *(kind.pickle_files if allow_pickle else ()))
    return [INDEX, *kind.description_files, *(pattern for file in weights for pattern in _with_shards(file))]


def _unknown(base: str) -> str:
    valid = [bundled_bases.STABLE_DIFFUSION, *names(STABLE_DIFFUSION)]
    return (
        f"{did_you_mean(base, STABLE_DIFFUSION, bundled_bases.STABLE_DIFFUSION)} is neither one of {', '.join(valid)}, "
        "nor an existing folder in diffusers' layout, nor a hub repository such as 'org/name' or 'org/name@revision'"
    )


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
    from tasks.diffusion.model.stable_diffusion_xl import StableDiffusionXL

    return {kind.pipeline_class: kind for kind in (StableDiffusion, StableDiffusionXL)}


def model_class(folder: Path, base: str) -> type[StableDiffusion]:
    """The class for the kind of diffusion model in a folder. Raises TaskError if no class supports it.

    A folder without an index, or whose index names no pipeline, holds a Stable Diffusion.
    """
    return _supported(pipeline_in(folder, base), base)


def _supported(pipeline: str, base: str) -> type[StableDiffusion]:
    classes = model_classes()
    if pipeline not in classes:
        raise TaskError(f"--task.base '{base}' is a {pipeline}, which is not supported; expected {', '.join(classes)}")
    return classes[pipeline]


def load(
    base: str,
    device: torch.device,
    allow_pickle: bool = False,
    train_text_encoder: bool = False,
    precision: BasePrecision | None = None,
) -> StableDiffusion:
    """All parts, frozen, from safetensors unless `allow_pickle`; `precision` is that of all weights but the VAE's, by
    default fp32. Raises TaskError.
    """
    folder = folder_of(base, allow_pickle)
    kind = model_class(folder, base)
    loaded = kind.load(folder, base, card_of(base), device, allow_pickle, train_text_encoder, precision or "fp32")
    loaded.backbone.compute = compute_of(precision, device)
    return loaded


def load_meta(base: str, train_text_encoder: bool = False) -> StableDiffusion:
    """The models of a base on the meta device, from their configurations alone. Raises TaskError."""
    known = published(base, STABLE_DIFFUSION)
    kind = _supported(known["pipeline"], base) if known else model_class(folder_of(base, weights=False), base)
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


def resolution_of(base: str) -> int:
    """The width and height in pixels that a base was trained on, from its configurations. Raises TaskError."""
    from tasks.diffusion.model.encoding import trained_resolution

    models = configurations(base)
    try:
        return trained_resolution(models["unet"], models["vae"])
    except (KeyError, TypeError):
        raise TaskError(
            f"--task.base '{base}': its configuration names no sample_size; give --task.resolution"
        ) from None


def load_tokenizer(base: str) -> Any:
    """The tokenizer of a base, without its weights. Raises TaskError."""
    folder = folder_of(base, weights=False)
    return model_class(folder, base).load_tokenizer(folder, base)


def parts_digest(folder: Path, *parts: str) -> str:
    """A digest of every file of these parts of a base, configurations included."""
    return digest(json.dumps([[part, folder_revision(folder / part)] for part in parts]).encode())
