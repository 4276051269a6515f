"""Published models as shapes: what `tasks/published/NAME.json` says of a base, without its weights.

One file a base: its `kind`, where the hub has it, and the configuration of every part as its own library reads it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PUBLISHED = Path(__file__).parent
LANGUAGE_MODEL, STABLE_DIFFUSION = "language-model", "stable-diffusion"


def published(base: str, kind: str) -> dict[str, Any] | None:
    """The configuration of a published base of this kind; None where no such base is known."""
    return json.loads((PUBLISHED / f"{base}.json").read_text()) if base in names(kind) else None


def names(kind: str) -> list[str]:
    """The published bases of a kind: "language-model" or "stable-diffusion"."""
    files = sorted(PUBLISHED.glob("*.json"))
    return [file.stem for file in files if json.loads(file.read_text())["kind"] == kind]
