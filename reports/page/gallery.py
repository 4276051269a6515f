"""The gallery of the page: one row of pictures per prompt, embedded as thumbnails."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from reports.plots.sample_grid import MAX_PIXELS, NOT_A_PICTURE, first_with_samples, shared_names
from reports.run_groups import RunGroup, by_method

THUMBNAIL = 192  # pixels along the longer side
MAX_PROMPTS = 12  # pictures per group


def gallery_rows(groups: Sequence[RunGroup]) -> list[dict[str, Any]]:
    """One row per prompt, one picture per group; the pictures of a row share prompt and sampling seed."""
    shown = [(group, run) for group in by_method(groups) if (run := first_with_samples(group))]
    captions = {name: text for _, run in reversed(shown) for name, text in run.captions().items()}
    samples = [(group, run, run.samples()) for group, run in shown]
    rows = []
    for name in shared_names([run for _, run in shown])[:MAX_PROMPTS]:
        pictures = [
            {"label": group.label, "seed": run.record.seed, "source": source}
            for group, run, files in samples
            if name in files and (source := thumbnail(files[name]))
        ]
        if pictures:
            rows.append({"caption": captions.get(name, name.removesuffix(".png")), "pictures": pictures})
    return rows


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
