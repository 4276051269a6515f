"""Sample grids: one row per group, one column per prompt, the same prompt and sampling seed in every row."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from reports.records import Run
from reports.run_groups import RunGroup

CELL, GAP, LABEL, LINE = 128, 6, 132, 14  # pixels
COLUMNS = 8  # pictures per row
CAPTION_LINES = 8
MAX_PIXELS = 64_000_000  # larger pictures are not opened
# what Pillow raises for files that are not pictures
NOT_A_PICTURE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


def montage(groups: Sequence[RunGroup], path: Path) -> Path | None:
    """Write the grid to `path`, a PNG; None if no run has samples."""
    rows = [(group.label, run) for group in groups if (run := first_with_samples(group))]
    names = shared_names([run for _, run in rows])[:COLUMNS]
    if not names:
        return None
    captions = [textwrap.wrap(rows[0][1].captions().get(name, ""), 20)[:CAPTION_LINES] for name in names]
    top = LINE * max(len(lines) for lines in captions) + 2 * GAP
    page = Image.new("RGB", (LABEL + len(names) * (CELL + GAP), top + len(rows) * (CELL + GAP)), "white")
    pen, font = ImageDraw.Draw(page), _font(11)
    for column, lines in enumerate(captions):
        pen.multiline_text((LABEL + column * (CELL + GAP), GAP), "\n".join(lines), "#5b616b", font, spacing=2)
    for row, (label, run) in enumerate(rows):
        y = top + row * (CELL + GAP)
        words = "\n".join(textwrap.wrap(label, 17)[:5])
        pen.multiline_text((GAP, y + CELL // 2 - 12), words, "#2b2f36", _font(12), spacing=3)
        for column, name in enumerate(names):
            page.paste(_cell(run.samples().get(name)), (LABEL + column * (CELL + GAP), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    page.save(path)
    return path


def first_with_samples(group: RunGroup) -> Run | None:
    """The run with pictures of the lowest seed."""
    return next((run for run in sorted(group.finished, key=lambda run: run.record.seed) if run.samples()), None)


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
