"""The names and folders of the bundled bases and of the models that measure pictures."""

from pathlib import Path

STABLE_DIFFUSION = "mini"
LANGUAGE_MODEL = "gpt-mini"

_HERE = Path(__file__).parent
FOLDERS = {name: _HERE / name for name in (STABLE_DIFFUSION, LANGUAGE_MODEL)}
SCORER = _HERE / "scorer"
CLASSIFIER = _HERE / "classifier"
CARD = "card.json"  # in a base's folder: the settings that it recommends
