"""A look at captioned pictures as a run would read them: `python -m tasks check sd-pokemon --task.data FOLDER`."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.bad_items import left_out_line, numbered
from tasks.cache import tensor_digest
from tasks.data_report import DataReport, counts_line, lengths_line, range_text, shared_line
from tasks.diffusion.data.open_picture import UnreadablePicture, described
from tasks.diffusion.data.splits import SHARED, Pictures, PictureSplits
from tasks.diffusion.evaluation.grid import grid_of
from tasks.diffusion.model import bases
from tasks.diffusion.model.encoding import caption_lengths, cut_captions
from tasks.errors import TaskError

Source = tuple[str, Path | bytes]  # name and file, or content
SHOWN = 8  # pictures of the grid


def report_of(splits: PictureSplits, base: str, resolution: int, sources: Sequence[Source] = ()) -> DataReport:
    """Counts, captions, duplicates and a grid of the splits; sizes and modes of those `sources` that are used."""
    facts = splits.facts
    report = DataReport(left_out=facts.get("left_out", {}))
    columns = [facts[name] for name in ("image_column", "caption_column") if name in facts]
    origin = [facts["captions"]] if "captions" in facts else []
    origin += [f"columns {' and '.join(columns)}"] if columns else []
    report.lines["data"] = facts["data"] + (f" ({', '.join(origin)})" if origin else "")
    report.lines["pictures"] = (
        f"{len(splits.train)} for training, {len(splits.validation)} for the validation loss, {len(splits.test)} for "
        f"the test, at {resolution} x {resolution} pixels{_overlap(facts.get(SHARED, 0))}"
    )
    report.lines["left out"] = left_out_line(facts)
    used = {name for part in (splits.train, splits.validation, splits.test) for name in part.names}
    report.lines |= _source_lines([content for name, content in sources if name in used], resolution)
    report.lines["captions"] = _captions_line(splits, base)
    held_out = {"validation": splits.validation, "test": splits.test}
    report.lines["in training and held out"] = _shared_line(splits.train, held_out)
    report.grid = _grid(splits.train)
    return report


def _overlap(shared: int) -> str:
    return f"; validation and test share {numbered(shared, 'picture')}" if shared else ""


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
        return f"{numbered(len(captions), 'different caption')}; the lengths lengths are unknown: {missing}"
    lengths, limit = caption_lengths(tokenizer, captions), tokenizer.model_max_length
    over = [named[caption] for caption in cut_captions(tokenizer, captions)]
    line = lengths_line(lengths, "tokens with start and end", limit, over, "cut there")
    return f"{numbered(len(captions), 'different caption')}, {line}"


def _shared_line(train: Pictures, held_out: Mapping[str, Pictures]) -> str:
    splits = {"train": train, **held_out}
    digests = {name: [tensor_digest(picture) for picture in pictures.pixels] for name, pictures in splits.items()}
    in_training = dict(_named(train, digests["train"]))
    names = {
        digest: f"{name} = {in_training.get(digest)}"
        for split, part in held_out.items()
        for digest, name in _named(part, digests[split])
    }
    captions = {name: pictures.captions for name, pictures in splits.items()}
    one_caption = len({caption for texts in captions.values() for caption in texts}) == 1  # a subject's
    lines = [shared_line(digests, "picture", names)]
    return "; ".join(lines if one_caption else [*lines, shared_line(captions, "caption")])


def _named(pictures: Pictures, items: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each picture's item with the name of its file, or its caption."""
    return zip(items, pictures.names or pictures.captions, strict=True)


def _grid(pictures: Pictures) -> Any:
    """Some training pictures as the model sees them, evenly spaced."""
    count = min(SHOWN, len(pictures))
    shown = pictures[[i * len(pictures) // count for i in range(count)]]
    titles = [textwrap.shorten(caption, 60) for caption in shown.captions]
    return grid_of({"train": shown.pixels}, titles) if titles else None
