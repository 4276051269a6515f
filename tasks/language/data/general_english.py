"""General English on which drift is measured: texts held out from the pretraining of the bundled `gpt-mini`."""

import json

from tasks.bundled.bundled_bases import FOLDERS, LANGUAGE_MODEL

LONGEST = 350  # tokens of the longest text in gpt-mini's vocabulary; a larger one needs fewer


def texts(count: int) -> list[str]:
    """`count` texts of each kind, synthetic descriptions and Bible chapters; the same for every base."""
    held_out = json.loads((FOLDERS[LANGUAGE_MODEL] / "held_out.json").read_text())
    return [text for kind in sorted(held_out) for text in held_out[kind][:count]]
