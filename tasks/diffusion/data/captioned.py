"""Captioned pictures that people have: an image folder, or a dataset of the hub by our name for it or by its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tasks.bad_items import BadItem, BadItems
from tasks.diffusion.data.splits import SUFFIXES, Pictures, Splits, check_count, resized, split, square, stack
from tasks.errors import TaskError
from tasks.pretrained import hub

if TYPE_CHECKING:
    from PIL import Image

    from tasks.diffusion.pokemon import Pokemon

DATA_FILES = ("*.parquet", "*.jsonl", "*.csv", "*.arrow", "*.zip", "*.tar", "*.tar.gz", *(f"*{s}" for s in SUFFIXES))
# The tutorial's own dataset was taken down in 2024; a copy in somebody's cache still serves.
KNOWN = {
    "pokemon": (
        "reach-vb/pokemon-blip-captions",
        "diffusers/pokemon-gpt4-captions",
        "lambdalabs/pokemon-blip-captions",
    ),
    "naruto": ("lambdalabs/naruto-blip-captions",),
}


def load(task: Pokemon, resolution: int) -> Splits:
    """The pictures that `task.data` names, centre-cropped to squares and resized to `resolution`, with the whole ones
    where random crops need them. `task` is filled.

    Raises TaskError that names what cannot be had or read.
    """
    from datasets import Image

    folder, facts = _folder(task.data)
    rows = _rows(folder, task.data)
    picture = _column(rows, task.data, task.image_column, "image", "--task.image-column")
    caption = _column(rows, task.data, task.caption_column, "text", "--task.caption-column")
    rows = rows.select_columns([picture, caption]).cast_column(picture, Image(decode=False))
    pixels, captions, whole, bad = [], [], [], BadItems(task.on_bad_item)
    for position in tqdm(range(len(rows)), "pictures", leave=False):
        with bad.skipped():
            image, text = _row(rows, position, picture, caption, task.data)
            pixels.append(square(image, resolution))
            captions.append(text)
            if task.crop == "random":
                whole.append(resized(image, resolution))
    facts |= {"image_column": picture, "caption_column": caption} | bad.facts()
    check_count(len(captions), facts)
    kept = (task.validation_items or 0, task.test_items or 0)
    return split(Pictures(stack(pixels), captions, whole=whole), *kept, facts)


def _folder(data: str) -> tuple[Path, dict[str, Any]]:
    """Where the files are, and what the record says of it."""
    if Path(data).is_dir() or not (data in KNOWN or hub.is_place(data)):
        _check_folder(Path(data))
        return Path(data), {"data": data}
    found = hub.fetch("--task.data", data, KNOWN.get(data, (data,)), DATA_FILES, "dataset")
    return found.folder, {"data": data, "data_place": found.place, "data_revision": found.revision}


def _check_folder(folder: Path) -> None:
    """Raise TaskError unless the folder holds pictures and a metadata file."""
    if not folder.is_dir():
        known = ", ".join(f"'{name}'" for name in ("creatures", "openmoji", *KNOWN))
        raise TaskError(f"--task.data '{folder}' is neither one of {known}, nor a hub name, nor an existing folder")
    if not any(file.suffix.lower() in SUFFIXES for file in folder.rglob("*")):
        raise TaskError(f"--task.data '{folder}' holds no picture; expected {', '.join(sorted(SUFFIXES))} files")
    if not any(folder.glob("metadata.*")):
        raise TaskError(
            f"--task.data '{folder}' has no metadata.jsonl; expected one line a picture such as "
            '{"file_name": "cat.png", "text": "a cat"}'
        )


def _rows(folder: Path, data: str) -> Any:
    """The training split (or the only one) of what `datasets` makes of the folder's files; no script of it is run."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    tables = sorted(map(str, folder.rglob("*.parquet")))
    try:
        found: Any = (
            load_dataset("parquet", data_files=tables) if tables else load_dataset("imagefolder", data_dir=str(folder))
        )
    except (DatasetsError, ValueError, OSError, LookupError, TypeError) as broken:  # of a broken metadata file
        reason = str(broken.__cause__ or broken).splitlines()[0]
        raise TaskError(f"--task.data '{data}' cannot be read as captioned pictures: {reason}") from None
    return found["train"] if "train" in found else next(iter(found.values()))


def _column(rows: Any, data: str, wanted: str | None, kind: str, option: str) -> str:
    """The column that is asked for, or the only one of its kind: "image" or "text"."""
    candidates = [name for name, feature in rows.features.items() if _kind(feature) == kind]
    if wanted is not None and wanted not in candidates:
        raise TaskError(f"{option} '{wanted}' is no {kind} column of {data}; it has {', '.join(candidates) or 'none'}")
    if wanted is None and len(candidates) != 1:
        raise TaskError(
            f"the {kind} column of {data} may be any of {', '.join(candidates) or 'no column at all'}: "
            f"name one with {option}"
        )
    return wanted or candidates[0]


def _kind(feature: Any) -> str | None:
    from datasets import Image, Value

    if isinstance(feature, Image):
        return "image"
    return "text" if isinstance(feature, Value) and feature.dtype in ("string", "large_string") else None


def _row(rows: Any, position: int, picture: str, caption: str, data: str) -> tuple[Image.Image, str]:
    import io

    from PIL import Image, UnidentifiedImageError

    raw = rows[position]
    name = raw[picture]["path"] or f"number {position}"
    try:
        content = raw[picture]["bytes"] or Path(name).read_bytes()
        image = Image.open(io.BytesIO(content)).convert("RGB")
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as broken:
        reason = "no picture's format" if isinstance(broken, UnidentifiedImageError) else broken
        sentence = f"the picture '{name}' of {data} cannot be read ({reason}): mend or remove it"
        raise BadItem("unreadable pictures", name, sentence) from None
    text = raw[caption]
    if not isinstance(text, str) or not text.strip():
        sentence = f"the picture '{name}' of {data} has an empty caption in column '{caption}': write one"
        raise BadItem("pictures with an empty caption", name, sentence)
    return image, text.strip()
