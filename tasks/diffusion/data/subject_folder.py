"""DreamBooth's subject in a folder of pictures."""

from __future__ import annotations

from pathlib import Path

from tasks.bad_items import numbered
from tasks.diffusion.data.held_out import HeldOut, different, divided
from tasks.diffusion.data.near_duplicates import near_duplicate_groups
from tasks.diffusion.data.open_picture import SUFFIXES, UnreadablePicture, open_picture
from tasks.diffusion.data.splits import Pictures, PictureSplits, resized, square, stack, subject_splits
from tasks.errors import TaskError


def subject_folder(
    folder: Path, held_out: int | None, resolution: int, caption: str, keep_whole: bool
) -> PictureSplits:
    """The pictures of a folder, all with one caption.

    A fifth is for the test, or `held_out` pictures; a tenth for validation and a twentieth for the floor, so that the
    papers' 4 to 6 pictures have neither: all but one of them train. Raises TaskError that names what cannot be read, or
    if too few pictures differ.
    """
    pictures = _pictures(subject_files(folder, held_out), resolution, caption, keep_whole)
    count, groups = len(pictures), near_duplicate_groups(pictures.pixels)
    sizes = held_out_sizes(count, held_out)
    if len(groups) < 2:
        raise TaskError(_too_few(folder, sizes.test, f"{numbered(count, 'picture')}{different(groups)}"))
    return subject_splits(divided(pictures, groups, sizes, {"data": str(folder)}), caption, resolution)


def held_out_sizes(count: int, held_out: int | None) -> HeldOut:
    """How many of `count` pictures are in each split; `held_out` of them are for the test, or a fifth."""
    test = held_out or max(1, count // 5)
    validation = max(0, min(count // 10, count - test - 1))
    return HeldOut(test, validation, max(0, min(count // 20, count - test - validation - 1)))


def _pictures(files: list[Path], resolution: int, caption: str, keep_whole: bool) -> Pictures:
    pixels, whole, sizes = [], [], []
    for file in files:
        try:
            picture = open_picture(file)
        except UnreadablePicture as broken:
            raise TaskError(f"the picture '{file}' cannot be read ({broken}): repair or remove it") from None
        pixels.append(square(picture, resolution))
        sizes.append((picture.height, picture.width))
        if keep_whole:
            whole.append(resized(picture, resolution))
    names = [file.name for file in files]
    return Pictures(stack(pixels), [caption] * len(files), whole=whole, names=names, sizes=sizes)


def subject_files(folder: Path, held_out: int | None) -> list[Path]:
    """The pictures of a subject's folder, in order of their names. Raises TaskError if there are too few."""
    found = folder.glob("[!.]*") if folder.is_dir() else ()
    files = sorted(file for file in found if file.suffix.lower() in SUFFIXES)
    test = held_out or 1
    if len(files) <= test:
        raise TaskError(_too_few(folder, test, str(len(files))))
    return files


def _too_few(folder: Path, test: int, has: str) -> str:
    return (
        f"--task.data '{folder}' must be 'character' or a folder with at least {test + 1} different pictures "
        f"({', '.join(sorted(SUFFIXES))}), {test} of them held out for the test; it has {has}"
    )
