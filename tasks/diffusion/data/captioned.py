"""Captioned pictures of the user's own: a folder, or a hub dataset by its name or by our name for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tasks.bad_items import BadItem, BadItems, OnBadItem
from tasks.diffusion.data.caption_files import (
    FORMS,
    Columns,
    Row,
    choose_column,
    find_table,
    picture_files,
    texts_beside,
    visible_files,
)
from tasks.diffusion.data.dataset_rows import read_dataset
from tasks.diffusion.data.open_picture import SUFFIXES, UnreadablePicture, open_picture
from tasks.diffusion.data.splits import Pictures, resized, square, stack
from tasks.errors import TaskError
from tasks.file_digests import named_digest
from tasks.pretrained import hub

if TYPE_CHECKING:
    from PIL.Image import Image

ARCHIVES = ("*.zip", "*.tar", "*.tar.gz")
CAPTIONS = (".jsonl", ".json", ".csv", ".txt", ".caption")
DATA_FILES = ("*.parquet", *ARCHIVES, *(f"*{suffix}" for suffix in (*CAPTIONS, *SUFFIXES)))
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
class CaptionedRows:
    """All rows of the data, not opened yet; `facts` say where they are from, `left_out` names pictures by reason."""

    rows: Sequence[Row]
    facts: Mapping[str, Any]
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)


def load(
    data: str, resolution: int, columns: Columns, on_bad_item: OnBadItem = "fail", whole: bool = False
) -> tuple[Pictures, dict[str, Any]]:
    """The pictures that `--task.data` names, cropped to the centre square and resized, and facts for the record.

    With `whole`, also the uncropped pictures, for random crops. Raises TaskError that names what cannot be read.
    """
    source, bad = find_rows(data, columns), BadItems(on_bad_item)
    pictures = _pictures(source.rows, data, resolution, bad, whole)
    for kind, names in source.left_out.items():
        bad.leave_out(kind, names)
    return pictures, {**source.facts, **bad.facts()}


def find_rows(data: str, columns: Columns) -> CaptionedRows:
    """The rows that `--task.data` names; no picture is opened. Raises TaskError if they cannot be read."""
    folder, facts = _folder(data)
    tables = [file for file in visible_files(folder) if file.suffix == ".parquet"]
    if tables or not picture_files(folder):
        rows, chosen = read_dataset(folder, tables, data, columns)
        return CaptionedRows(rows, facts | chosen)
    return _from_folder(folder, columns, facts)


def content_digest(data: str, columns: Columns) -> str:
    """The commit of a hub dataset, or a digest of a folder's pictures and captions.

    Raises TaskError if the rows cannot be found.
    """
    facts = find_rows(data, columns).facts
    if "data_revision" in facts:
        return facts["data_revision"]
    counted = {*SUFFIXES, *CAPTIONS, ".parquet", ".zip", ".tar", ".gz"}
    return named_digest(Path(data), (file for file in visible_files(Path(data)) if file.suffix.lower() in counted))


def _pictures(rows: Sequence[Row], data: str, resolution: int, bad: BadItems, whole: bool) -> Pictures:
    pixels, captions, uncropped, names = [], [], [], []
    for row in tqdm(rows, "pictures", leave=False):
        with bad.skipped():
            picture, caption = _checked(row, data)
            pixels.append(square(picture, resolution))
            captions.append(caption)
            names.append(row.name)
            if whole:
                uncropped.append(resized(picture, resolution))
    return Pictures(stack(pixels), captions, whole=uncropped, names=names)


def _checked(row: Row, data: str) -> tuple[Image, str]:
    """A row's picture and caption. Raises BadItem."""
    caption = caption_of(row, data)
    try:
        return open_picture(row.source), caption
    except UnreadablePicture as broken:
        sentence = f"the picture '{row.name}' of {data} cannot be read ({broken}): repair or remove it"
        raise BadItem(broken.kind, row.name, sentence) from None


def caption_of(row: Row, data: str) -> str:
    """The caption without spaces around it. Raises BadItem if it is empty."""
    if not isinstance(row.caption, str) or not row.caption.strip():
        sentence = f"the picture '{row.name}' of {data} has an empty caption: write one"
        raise BadItem("pictures with an empty caption", row.name, sentence)
    return row.caption.strip()


def _folder(data: str) -> tuple[Path, dict[str, Any]]:
    """The folder of the dataset's files, and where they are from."""
    if Path(data).is_dir() or not (data in KNOWN or hub.is_repository(data)):
        _check_folder(Path(data))
        return Path(data), {"data": data}
    snapshot = hub.fetch("--task.data", data, KNOWN.get(data, (data,)), DATA_FILES, "dataset")
    return snapshot.folder, {"data": data, "data_source": snapshot.source, "data_revision": snapshot.revision}


def _check_folder(folder: Path) -> None:
    """Raise TaskError unless the folder has pictures, or a table that contains them."""
    if not folder.is_dir():
        known = ", ".join(f"'{name}'" for name in ("creatures", "openmoji", *KNOWN))
        raise TaskError(f"--task.data '{folder}' is neither one of {known}, nor a hub dataset, nor an existing folder")
    if not picture_files(folder) and not any(next(folder.rglob(form), None) for form in ("*.parquet", *ARCHIVES)):
        raise TaskError(f"--task.data '{folder}' has no pictures; expected {', '.join(sorted(SUFFIXES))} files")


def _from_folder(folder: Path, columns: Columns, facts: Mapping[str, Any]) -> CaptionedRows:
    """Loose pictures with a table of captions, or with a text beside each."""
    pictures, table = picture_files(folder), find_table(folder)
    if table is None:
        rows = texts_beside(folder, pictures)
        if not rows:
            raise TaskError(f"--task.data '{folder}' has no captions; expected {FORMS}")
        source, kind = "a text beside each picture", "pictures without a text beside them"
    else:
        image = choose_column(list(table.picture_columns), str(folder), columns.image, "image", "--task.image-column")
        caption = choose_column(table.text_columns, str(folder), columns.caption, "text", "--task.caption-column")
        rows = table.captioned(folder, image, caption)
        source, kind = table.files[0].name, f"pictures without a line in {table.files[0].name}"
        facts = {**facts, "image_column": image, "caption_column": caption}
    named = {row.source for row in rows}
    missing = [str(file.relative_to(folder)) for file in pictures if file not in named]
    return CaptionedRows(rows, {**facts, "captions": source}, {kind: missing} if missing else {})
