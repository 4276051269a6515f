"""The gallery of the page: what each group drew or wrote for a prompt, beside the real and the untuned base's."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from reports.errors import ReportError
from reports.plots.sample_grid import MAX_PIXELS, NOT_A_PICTURE, first_with_samples, pictures_beside, shared_names
from reports.records import Run
from reports.run_groups import RunGroup, by_method, distinct_label
from reports.text.format import one_line

THUMBNAIL = 192  # pixels along the longer side
MAX_PROMPTS = 12
MAX_CHARACTERS = 1500  # of a prompt or a text
PROMPTS, TEXTS = ("prompt", "meaning", "caption"), ("text", "reference")  # columns of items.parquet


def gallery_rows(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One row per prompt: the real picture, the untuned base's, and one per group.

    The pictures of a row share prompt and sampling seed.
    """
    shown = [(group, run) for group in by_method(groups) if (run := first_with_samples(group))]
    captions = {name: text for _, run in reversed(shown) for name, text in run.captions().items()}
    tuned = [_entry(groups, group, run) | {"files": run.samples()} for group, run in shown]
    beside = [
        {"label": title, "seed": None, "group": None, "files": files}
        for title, files in pictures_beside([run for _, run in shown]).items()
    ]
    rows = []
    for name in shared_names([run for _, run in shown])[:MAX_PROMPTS]:
        pictures = [
            {key: entry[key] for key in ("label", "seed", "group")} | {"source": source}
            for entry in [*beside, *tuned]
            if name in entry["files"] and (source := thumbnail(entry["files"][name]))
        ]
        if pictures:
            rows.append({"caption": captions.get(name, name.removesuffix(".png")), "entries": pictures})
    return rows


def text_rows(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One row per prompt: a reference text, and what each group's first run wrote; none if no run has texts."""
    shown = [
        _entry(groups, group, run) | {"texts": texts}
        for group in by_method(groups)
        if (run := min(group.finished, key=lambda run: run.record.seed, default=None)) and (texts := _texts(run))
    ]
    prompts = list(dict.fromkeys(prompt for entry in shown for prompt in entry["texts"]))[:MAX_PROMPTS]
    return [{"caption": prompt, "entries": _texts_of(prompt, shown)} for prompt in prompts]


def _texts_of(prompt: str, shown: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    having = [entry for entry in shown if prompt in entry["texts"]]
    reference = next((text for entry in having if (text := entry["texts"][prompt][1])), None)
    first = [{"label": "reference", "seed": None, "group": None, "text": reference}] if reference else []
    return first + [
        {key: entry[key] for key in ("label", "seed", "group")} | {"text": entry["texts"][prompt][0]}
        for entry in having
    ]


def _entry(groups: Sequence[RunGroup], group: RunGroup, run: Run) -> dict[str, Any]:
    row = next(i for i, other in enumerate(groups) if other is group)
    return {"label": one_line(distinct_label(group, groups)), "seed": run.record.seed, "group": row}


def _texts(run: Run) -> dict[str, tuple[str, str | None]]:
    """By prompt: the text that the run's model wrote, and a reference text if there is one."""
    try:
        items = run.items()
    except ReportError:
        return {}
    prompt = next((name for name in PROMPTS if name in items), None)
    if prompt is None or TEXTS[0] not in items:
        return {}
    references = items[TEXTS[1]] if TEXTS[1] in items else [None] * len(items)
    rows = zip(items[prompt], items[TEXTS[0]], references, strict=True)
    return {
        str(asked)[:MAX_CHARACTERS]: (str(text)[:MAX_CHARACTERS], str(other)[:MAX_CHARACTERS] if other else None)
        for asked, text, other in [*rows][:MAX_PROMPTS]
    }


def thumbnail(path: Path) -> str | None:
    """A picture, scaled down, as a data: URL; None if the file is not a picture."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                return None
            small = picture.convert("RGB")
        small.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        small.save(buffer := io.BytesIO(), "PNG", optimize=True)
    except NOT_A_PICTURE:
        return None
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
