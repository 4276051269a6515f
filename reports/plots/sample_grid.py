"""Sample grids: real pictures, the untuned base's, then one row per group; one column per prompt and sampling seed."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from reports.records import Run
from reports.run_groups import RunGroup, distinct_label

CELL, GAP, LABEL, LINE = 128, 6, 132, 14  # pixels
COLUMNS = 8  # pictures per row
BESIDE = {"real": "real", "base": "untuned base"}  # folders in samples/, and their titles
MAX_PIXELS = 64_000_000  # larger pictures are not opened
# what Pillow raises for files that are not pictures
NOT_A_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def montage(groups: Sequence[RunGroup], path: Path) -> Path | None:
    """Write the grid to `path`, a PNG; None if no run has samples."""
    shown = [(distinct_label(group, groups), run) for group in groups if (run := first_with_samples(group))]
    names = shared_names([run for _, run in shown])[:COLUMNS]
    if not names:
        return None
    rows = [*pictures_beside([run for _, run in shown]).items(), *((label, run.samples()) for label, run in shown)]
    captions = [textwrap.wrap(shown[0][1].captions().get(name, ""), 20) for name in names]
    top = LINE * max(len(lines) for lines in captions) + 2 * GAP
    page = Image.new("RGB", (LABEL + len(names) * (CELL + GAP), top + len(rows) * (CELL + GAP)), "white")
    pen, font = ImageDraw.Draw(page), _font(11)
    for column, lines in enumerate(captions):
        pen.multiline_text((LABEL + column * (CELL + GAP), GAP), "\n".join(lines), "#5b616b", font, spacing=2)
    for row, (label, pictures) in enumerate(rows):
        y = top + row * (CELL + GAP)
        words = "\n".join(textwrap.wrap(label, 17)[:5])
        pen.multiline_text((GAP, y + CELL // 2 - 12), words, "#2b2f36", _font(12), spacing=3)
        for column, name in enumerate(names):
            page.paste(_cell(pictures.get(name)), (LABEL + column * (CELL + GAP), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def first_with_samples(group: RunGroup) -> Run | None:
    """The run with pictures of the lowest seed."""
    return next((run for run in sorted(group.finished, key=lambda run: run.record.seed) if run.samples()), None)


def pictures_beside(runs: Sequence[Run]) -> dict[str, dict[str, Path]]:
    """The real pictures and the untuned base's, of the first run that has them, by title."""
    found = {title: next((files for run in runs if (files := run.samples(kind))), {}) for kind, title in BESIDE.items()}
    return {title: files for title, files in found.items() if files}


def shared_names(runs: Sequence[Run]) -> list[str]:
    """File names of the pictures to show side by side: those with a prompt if any run has prompts, else all."""
    names = list(dict.fromkeys(name for run in runs for name in run.samples()))
    prompted = {name for run in runs for name in run.captions()}
    return [name for name in names if name in prompted] or names


def _cell(path: Path | None) -> Image.Image:
    if path is not None:
        try:
            with Image.open(path) as picture:
                if picture.width * picture.height <= MAX_PIXELS:
                    small = max(picture.size) < CELL
                    return picture.convert("RGB").resize(
                        (CELL, CELL), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
                    )
        except NOT_A_PICTURE:
            pass
    blank = Image.new("RGB", (CELL, CELL), "#f1f2f4")
    ImageDraw.Draw(blank).text((CELL // 2, CELL // 2), "no picture", "#8a8f98", _font(11), anchor="mm")
    return blank


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
