"""Captioned pictures of the user's own: an image folder, or a hub dataset by its name or by our name for it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tasks.bad_items import BadItem, BadItems, OnBadItem
from tasks.diffusion.data.splits import SUFFIXES, Pictures, resized, square, stack
from tasks.errors import TaskError
from tasks.pretrained import hub

if TYPE_CHECKING:
    from PIL import Image

DATA_FILES = ("*.parquet", "*.jsonl", "*.csv", "*.arrow", "*.zip", "*.tar", "*.tar.gz", *(f"*{s}" for s in SUFFIXES))
# The tutorial's own dataset was taken down in 2024; copies in a cache still work.
KNOWN = {
    "pokemon": (
        "reach-vb/pokemon-blip-captions",
        "diffusers/pokemon-gpt4-captions",
        "lambdalabs/pokemon-blip-captions",
    ),
    "naruto": ("lambdalabs/naruto-blip-captions",),
}


@dataclass(frozen=True)
class Columns:
    """The dataset's columns of pictures and captions; None for the only one of its kind."""

    image: str | None = None
    caption: str | None = None


def load(
    data: str, resolution: int, columns: Columns, on_bad_item: OnBadItem = "fail", whole: bool = False
) -> tuple[Pictures, dict[str, Any]]:
    """The pictures that `--task.data` names, cropped to the centre square and resized, and facts for the record.

    With `whole`, also the uncropped pictures, for random crops. Raises TaskError that names what cannot be read.
    """
    folder, facts = _folder(data)
    dataset = _read_dataset(folder, data)
    image_column = _column(dataset, data, columns.image, "image", "--task.image-column")
    caption_column = _column(dataset, data, columns.caption, "text", "--task.caption-column")
    bad = BadItems(on_bad_item)
    pictures = _pictures(_Rows(dataset, data, image_column, caption_column), resolution, bad, whole)
    facts |= {"image_column": image_column, "caption_column": caption_column} | bad.facts()
    return pictures, facts


def _pictures(rows: _Rows, resolution: int, bad: BadItems, whole: bool) -> Pictures:
    pixels, captions, uncropped = [], [], []
    for position in tqdm(range(len(rows)), "pictures", leave=False):
        with bad.skipped():
            image, caption = rows[position]
            pixels.append(square(image, resolution))
            captions.append(caption)
            if whole:
                uncropped.append(resized(image, resolution))
    return Pictures(stack(pixels), captions, whole=uncropped)


def _folder(data: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the dataset's files, and where they are from."""
    if Path(data).is_dir() or not (data in KNOWN or hub.is_repository(data)):
        _check_folder(Path(data))
        return Path(data), {"data": data}
    snapshot = hub.fetch("--task.data", data, KNOWN.get(data, (data,)), DATA_FILES, "dataset")
    return snapshot.folder, {"data": data, "data_source": snapshot.source, "data_revision": snapshot.revision}


def _check_folder(folder: Path) -> None:
    """Raise TaskError unless the folder has pictures and a metadata file."""
    if not folder.is_dir():
        known = ", ".join(f"'{name}'" for name in ("creatures", "openmoji", *KNOWN))
        raise TaskError(f"--task.data '{folder}' is neither one of {known}, nor a hub dataset, nor an existing folder")
    if not any(file.suffix.lower() in SUFFIXES for file in folder.rglob("*")):
        raise TaskError(f"--task.data '{folder}' has no pictures; expected {', '.join(sorted(SUFFIXES))} files")
    if not any(folder.glob("metadata.*")):
        raise TaskError(
            f"--task.data '{folder}' has no metadata.jsonl; write one with a line per picture such as "
            '{"file_name": "cat.png", "text": "a cat"}'
        )


def _read_dataset(folder: Path, data: str) -> Any:
    """The training split (or the only one) that `datasets` reads from the folder; it runs no script of the folder."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    tables = sorted(map(str, folder.rglob("*.parquet")))
    try:
        splits: Any = (
            load_dataset("parquet", data_files=tables) if tables else load_dataset("imagefolder", data_dir=str(folder))
        )
    except (DatasetsError, ValueError, OSError, LookupError, TypeError) as broken:  # from a broken metadata file
        reason = str(broken.__cause__ or broken).splitlines()[0]
        raise TaskError(f"--task.data '{data}' cannot be read as captioned pictures: {reason}") from None
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def _column(dataset: Any, data: str, wanted: str | None, kind: str, option: str) -> str:
    """The requested column, or the only one of its kind: "image" or "text"."""
    candidates = [name for name, feature in dataset.features.items() if _kind(feature) == kind]
    if wanted is not None and wanted not in candidates:
        valid = ", ".join(candidates) or "none"
        raise TaskError(f"{option} '{wanted}' is not a column of {kind}s in {data}; valid: {valid}")
    if wanted is None and not candidates:
        raise TaskError(f"--task.data '{data}' has no {kind} column; it has {', '.join(dataset.features)}")
    if wanted is None and len(candidates) > 1:
        raise TaskError(f"{data} has several {kind} columns ({', '.join(candidates)}): choose one with {option}")
    return wanted or candidates[0]


def _kind(feature: Any) -> str | None:
    from datasets import Image, Value

    if isinstance(feature, Image):
        return "image"
    return "text" if isinstance(feature, Value) and feature.dtype in ("string", "large_string") else None


class _Rows:
    """Pictures with their captions, by position. A row that cannot be used raises BadItem."""

    def __init__(self, dataset: Any, data: str, image_column: str, caption_column: str):
        from datasets import Image

        columns = dataset.select_columns([image_column, caption_column])
        self.dataset = columns.cast_column(image_column, Image(decode=False))
        self.data, self.image_column, self.caption_column = data, image_column, caption_column

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> tuple[Image.Image, str]:
        row = self.dataset[position]
        source, caption = row[self.image_column], row[self.caption_column]
        name = source["path"] or f"number {position}"
        image = self._open(source["bytes"], name)
        if not isinstance(caption, str) or not caption.strip():
            sentence = f"the picture '{name}' of {self.data} has an empty caption in '{self.caption_column}': write one"
            raise BadItem("pictures with an empty caption", name, sentence)
        return image, caption.strip()

    def _open(self, content: bytes | None, name: str) -> Image.Image:
        from PIL import Image, UnidentifiedImageError

        try:
            return Image.open(io.BytesIO(content or Path(name).read_bytes())).convert("RGB")
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as broken:
            reason = "not an image format" if isinstance(broken, UnidentifiedImageError) else broken
            sentence = f"the picture '{name}' of {self.data} cannot be read ({reason}): repair or remove it"
            raise BadItem("unreadable pictures", name, sentence) from None
