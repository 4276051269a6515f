"""A look at captioned pictures as a run would read them: `python -m tasks check sd-pokemon --task.data FOLDER`."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tasks.bad_items import left_out_line, numbered
from tasks.data_report import DataReport, counts_line, lengths_line, range_text, shared_line
from tasks.diffusion.data.open_picture import UnreadablePicture, described
from tasks.diffusion.data.splits import Pictures, PictureSplits
from tasks.diffusion.evaluation.grid import grid_of
from tasks.diffusion.model import bases
from tasks.diffusion.model.encoding import caption_lengths, cut_captions
from tasks.duplicates import COUNT, duplicates_line
from tasks.errors import TaskError

Source = tuple[str, Path | bytes]  # name and file, or content
SHOWN = 8  # pictures of the grid


def report_of(splits: PictureSplits, base: str, resolution: int, sources: Sequence[Source] = ()) -> DataReport:
    """Counts, duplicates, captions and a grid of the splits; sizes and modes of those `sources` that are used."""
    facts = splits.facts
    report = DataReport(left_out=facts.get("left_out", {}))
    columns = [facts[name] for name in ("image_column", "caption_column") if name in facts]
    origin = [facts["captions"]] if "captions" in facts else []
    origin += [f"columns {' and '.join(columns)}"] if columns else []
    report.lines["data"] = facts["data"] + (f" ({', '.join(origin)})" if origin else "")
    report.lines["pictures"] = (
        f"{len(splits.train)} for training, {len(splits.validation)} for the validation loss, {len(splits.test)} for "
        f"the test, {len(splits.floor)} for the floor, at {resolution} x {resolution} pixels"
    )
    report.lines["left out"] = left_out_line(facts)
    if COUNT in facts:
        report.lines["duplicates"] = duplicates_line(facts, "the same or nearly the same pictures")
    parts = (splits.train, splits.validation, splits.test, splits.floor)
    used = {name for part in parts for name in part.names}
    report.lines |= _source_lines([content for name, content in sources if name in used], resolution)
    report.lines["captions"] = _captions_line(splits, base)
    captions = {"train": splits.train.captions, "held out": [*splits.validation.captions, *splits.test.captions]}
    if len({caption for part in captions.values() for caption in part}) > 1:  # a subject's are all the same
        report.lines["in training and held out"] = shared_line(captions, "caption")
    report.grid = _grid(splits.train)
    return report


def _source_lines(sources: Sequence[Path | bytes], resolution: int) -> dict[str, str]:
    """Sizes, modes and treatment of the unprocessed files; files that cannot be opened are named elsewhere."""
    found = []
    for source in sources:
        try:
            found.append(described(source))
        except UnreadablePicture:
            continue
    if not found:
        return {}
    widths, heights = zip(*(each.size for each in found), strict=True)
    small = sum(min(each.size) < resolution for each in found)
    sides = [min(each.size) for each in found]
    enlarged = f"; enlarged, because the shorter side is below {resolution}: {small}" if small else ""
    sizes = f"{range_text(widths, 'pixels wide')}, {range_text(heights, 'high')}"
    lines = {
        "sizes": f"{sizes} (median shorter side {statistics.median_low(sides)}){enlarged}",
        "modes": counts_line(each.mode for each in found),
    }
    treated = counts_line(treatment for each in found for treatment in each.treatments)
    return lines | ({"treated": treated} if treated else {})


def _captions_line(splits: PictureSplits, base: str) -> str:
    parts = (splits.train, splits.validation, splits.test)
    named = {text: name for part in parts for text, name in _named(part, part.captions)}
    captions = list(named)
    try:
        tokenizer = bases.load_tokenizer(base)
    except TaskError as missing:
        return f"{numbered(len(captions), 'different caption')}; their lengths are unknown: {missing}"
    lengths, limit = caption_lengths(tokenizer, captions), tokenizer.model_max_length
    over = [named[caption] for caption in cut_captions(tokenizer, captions)]
    line = lengths_line(lengths, "tokens with start and end", limit, over, "cut there")
    return f"{numbered(len(captions), 'different caption')}, {line}"


def _named(pictures: Pictures, items: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each picture's item with the name of its file, or its caption."""
    return zip(items, pictures.names or pictures.captions, strict=True)


def _grid(pictures: Pictures) -> Any:
    """Some training pictures as the model sees them, evenly spaced."""
    count = min(SHOWN, len(pictures))
    shown = pictures[[i * len(pictures) // count for i in range(count)]]
    titles = [textwrap.shorten(caption, 60) for caption in shown.captions]
    return grid_of({"train": shown.pixels}, titles) if titles else None
