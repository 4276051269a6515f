"""Captioned pictures of the user's own: a folder, or a hub dataset by its name or by our name for it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from tasks.bad_items import BadItem, BadItems, OnBadItem
from tasks.diffusion.data.caption_files import FORMS, Columns, Row, read_caption, rows_of_texts, texts_beside
from tasks.diffusion.data.caption_table import TABLES, find_table
from tasks.diffusion.data.dataset_rows import read_dataset
from tasks.diffusion.data.open_picture import SUFFIXES, UnreadablePicture, open_picture
from tasks.diffusion.data.picture_folder import PictureFolder
from tasks.diffusion.data.splits import Pictures, resized, square, stack
from tasks.errors import TaskError
from tasks.file_digests import named_digest
from tasks.pretrained import hub

if TYPE_CHECKING:
    from PIL.Image import Image

ARCHIVES = (".zip", ".tar", ".tar.gz")
CAPTIONS = (".jsonl", ".json", ".csv", ".txt", ".caption")
DATA_FILES = tuple(f"*{suffix}" for suffix in (".parquet", *ARCHIVES, *CAPTIONS, *SUFFIXES))
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
    """The rows for training and test, not opened yet, from `files`, some of which may be missing.

    `facts` say where they are from, `left_out` names pictures by reason.
    """

    rows: Sequence[Row]
    facts: Mapping[str, Any]
    files: Sequence[Path]
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
    if folder.pictures and not folder.parquet_files:
        return _from_folder(folder, columns, facts)
    rows, chosen = read_dataset(folder.root, folder.parquet_files, data, columns)
    return CaptionedRows(rows, facts | chosen, folder.parquet_files or _archives(folder))


def content_digest(data: str, columns: Columns) -> str:
    """The commit of a hub dataset, or a digest of a folder's pictures and captions.

    Raises TaskError if the rows cannot be found.
    """
    found = find_rows(data, columns)
    if "data_revision" in found.facts:
        return found.facts["data_revision"]
    return named_digest(Path(data), sorted(file for file in set(found.files) if file.is_file()))


def _pictures(rows: Sequence[Row], data: str, resolution: int, bad: BadItems, whole: bool) -> Pictures:
    pixels, captions, uncropped, names, sizes = [], [], [], [], []
    for row in tqdm(rows, "pictures", leave=False):
        with bad.skipped():
            picture, caption = _checked(row, data)
            pixels.append(square(picture, resolution))
            captions.append(caption)
            names.append(row.name)
            sizes.append((picture.height, picture.width))
            if whole:
                uncropped.append(resized(picture, resolution))
    return Pictures(stack(pixels), captions, whole=uncropped, names=names, sizes=sizes)


def _checked(row: Row, data: str) -> tuple[Image, str]:
    """A row's picture and caption. Raises BadItem."""
    caption = caption_of(row, data)
    try:
        return open_picture(row.source), caption
    except UnreadablePicture as broken:
        sentence = f"the picture '{row.name}' of {data} cannot be read ({broken}): repair or remove it"
        raise BadItem(broken.kind, row.name, sentence) from None


def caption_of(row: Row, data: str) -> str:
    """The caption without spaces around it. Raises BadItem if it is empty or cannot be read."""
    caption = read_caption(row.caption, row.name) if isinstance(row.caption, Path) else row.caption
    if not isinstance(caption, str) or not caption.strip():
        sentence = f"the picture '{row.name}' of {data} has an empty caption: write one"
        raise BadItem("pictures with an empty caption", row.name, sentence)
    return caption.strip()


def _folder(data: str) -> tuple[PictureFolder, dict[str, Any]]:
    """The folder of the dataset's files, and where they are from."""
    if Path(data).is_dir() or not (data in KNOWN or hub.is_repository(data)):
        return _checked_folder(Path(data)), {"data": data}
    snapshot = hub.fetch("--task.data", data, KNOWN.get(data, (data,)), DATA_FILES, "dataset")
    facts = {"data": data, "data_source": snapshot.source, "data_revision": snapshot.revision}
    return PictureFolder.listed(snapshot.folder), facts


def _checked_folder(root: Path) -> PictureFolder:
    """Raises TaskError unless the folder has pictures, or files that contain them."""
    if not root.is_dir():
        known = ", ".join(f"'{name}'" for name in ("creatures", "openmoji", *KNOWN))
        raise TaskError(f"--task.data '{root}' is neither one of {known}, nor a hub dataset, nor an existing folder")
    folder = PictureFolder.listed(root)
    if not (folder.pictures or folder.parquet_files or _archives(folder)):
        raise TaskError(f"--task.data '{root}' has no pictures; expected {', '.join(sorted(SUFFIXES))} files")
    return folder


def _archives(folder: PictureFolder) -> list[Path]:
    """Archives and the tables of captions beside them; none if there are no archives."""
    archives = [file for file in folder.files if file.name.lower().endswith(ARCHIVES)]
    return archives + [file for file in folder.files if archives and file.name.lower() in TABLES]


def _from_folder(folder: PictureFolder, columns: Columns, facts: Mapping[str, Any]) -> CaptionedRows:
    """Loose pictures with a table of captions, or with a text beside each."""
    data, table = str(folder.root), find_table(folder)
    if table is None:
        texts = texts_beside(folder)
        if not texts:
            raise TaskError(f"--task.data '{data}' has no captions; expected {FORMS}")
        rows, captions = rows_of_texts(folder, texts), list(texts.values())
        source, kind = "a text beside each picture", "pictures without a text beside them"
    else:
        image = table.image_column(data, columns.image)
        caption = table.caption_column(data, columns.caption, image)
        rows, captions = table.captioned(folder, image, caption), table.files
        source, kind = table.files[0].name, f"pictures without a line in {table.files[0].name}"
        facts = {**facts, "image_column": image, "caption_column": caption}
    named = [row.source for row in rows if isinstance(row.source, Path)]
    left_out = _left_out(folder, set(named), kind)
    return CaptionedRows(rows, {**facts, "captions": source}, [*captions, *named], left_out)


def _left_out(folder: PictureFolder, named: Collection[Path], kind: str) -> dict[str, list[str]]:
    """The pictures that are not named, those of the training split under `kind`."""
    left_out: dict[str, list[str]] = {}
    for picture in folder.pictures:
        if picture not in named:
            reason = kind if folder.is_for_training(picture) else "pictures of other splits"
            left_out.setdefault(reason, []).append(str(picture.relative_to(folder.root)))
    return left_out
