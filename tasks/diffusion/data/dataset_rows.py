"""Captioned pictures that the library `datasets` reads: parquet files that contain them, and archives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.diffusion.data.caption_files import Columns, Row, choose_column
from tasks.errors import TaskError, first_line


def read_dataset(
    folder: Path, tables: Sequence[Path], data: str, columns: Columns
) -> tuple[Sequence[Row], dict[str, str]]:
    """Parquet files that contain the pictures (`tables`), or archives of pictures, and the columns that were chosen.

    Raises TaskError if they cannot be read.
    """
    from datasets import Image

    dataset = _read_dataset(folder, tables, data)
    kinds = {name: _kind(feature) for name, feature in dataset.features.items()}
    images, texts = ([name for name, each in kinds.items() if each == kind] for kind in ("image", "text"))
    types = [f"{name} ({_type_of(feature)})" for name, feature in dataset.features.items()]
    image = choose_column(images, data, columns.image, "image", "--task.image-column", types)
    caption = choose_column(texts, data, columns.caption, "text", "--task.caption-column", types)
    chosen = dataset.select_columns([image, caption]).cast_column(image, Image(decode=False))
    return _DatasetRows(chosen, image, caption), {"image_column": image, "caption_column": caption}


def _read_dataset(folder: Path, tables: Sequence[Path], data: str) -> Any:
    """The training split (or the only one) that `datasets` reads from the folder; it runs no script of the folder."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        splits: Any = (
            load_dataset("parquet", data_files=[str(file) for file in tables])
            if tables
            else load_dataset("imagefolder", data_dir=str(folder))
        )
    except (DatasetsError, ValueError, OSError, LookupError, TypeError) as broken:  # from a broken metadata file
        reason = first_line(broken.__cause__ or broken)
        raise TaskError(f"--task.data '{data}' cannot be read as captioned pictures: {reason}") from None
    return splits["train"] if "train" in splits else next(iter(splits.values()))


def _kind(feature: Any) -> str | None:
    from datasets import Image, Value

    if isinstance(feature, Image):
        return "image"
    return "text" if isinstance(feature, Value) and feature.dtype in ("string", "large_string") else None


def _type_of(feature: Any) -> str:
    return getattr(feature, "dtype", None) or type(feature).__name__.lower()


class _DatasetRows(Sequence[Row]):
    """The rows of a dataset of `datasets`, read one by one."""

    def __init__(self, dataset: Any, image_column: str, caption_column: str):
        self.dataset, self.image_column, self.caption_column = dataset, image_column, caption_column

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Row]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: Any) -> Row:
        row = self.dataset[position]
        picture = row[self.image_column] or {"path": None, "bytes": b""}
        name = picture["path"] or f"number {position}"
        content = picture["bytes"]
        return Row(name, Path(name) if content is None else content, row[self.caption_column])
