"""Sample grids: an arm a row, a prompt a column; one column is the same prompt and seed in every row."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from reports.records import Run
from reports.run_groups import RunGroup

CELL, GAP, LABEL, LINE, COLUMNS = 128, 6, 132, 14, 8  # pixels, and pictures a row
LARGEST = 64_000_000  # pixels; a larger picture is not opened


def montage(arms: Sequence[RunGroup], path: Path) -> Path | None:
    """Write the grid to `path`, a PNG; None where no run has samples."""
    rows = [(arm.label, run) for arm in arms if (run := first_with_samples(arm))]
    names = shared_names([run for _, run in rows])[:COLUMNS]
    if not names:
        return None
    captions = [textwrap.wrap(rows[0][1].captions().get(name, ""), 20)[:4] for name in names]
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


def first_with_samples(arm: RunGroup) -> Run | None:
    """The arm's run of the lowest seed that has pictures."""
    return next((run for run in sorted(arm.finished, key=lambda run: run.record.seed) if run.samples()), None)


def shared_names(runs: Sequence[Run]) -> list[str]:
    """Names of the pictures to show side by side: those of single prompts if any run names prompts, else all."""
    names = list(dict.fromkeys(name for run in runs for name in run.samples()))
    prompted = {name for run in runs for name in run.captions()}
    return [name for name in names if name in prompted] or names


def _cell(path: Path | None) -> Image.Image:
    if path is not None:
        try:
            with Image.open(path) as picture:
                if picture.width * picture.height <= LARGEST:
                    small = max(picture.size) < CELL
                    return picture.convert("RGB").resize(
                        (CELL, CELL), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
                    )
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # Pillow's ways to say: no picture
            pass
    blank = Image.new("RGB", (CELL, CELL), "#f1f2f4")
    ImageDraw.Draw(blank).text((CELL // 2, CELL // 2), "no picture", "#8a8f98", _font(11), anchor="mm")
    return blank


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)
