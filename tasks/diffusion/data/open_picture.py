"""Open pictures as people have them: turned as EXIF says, transparency on white, 16 bits scaled to 8."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
BACKGROUND = "white"  # behind transparent pixels
ORIENTATION = 0x0112  # the EXIF tag
MAX_16_BITS = 2**16 - 1


class UnreadablePicture(ValueError):
    """A file that is not a usable picture; `kind` is the category that such files are counted under."""

    def __init__(self, kind: str, reason: str):
        super().__init__(reason)
        self.kind = kind


def open_picture(source: Path | bytes) -> Image:
    """The picture in a file, or in its content, in RGB. Raises UnreadablePicture with the reason."""
    with refusals():
        return _rgb(opened(source))


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn whatever Pillow raises into UnreadablePicture."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except Image.DecompressionBombError:
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6
        reason = f"more than {most} million pixels, which can be a decompression bomb; make it smaller"
        raise UnreadablePicture("pictures with too many pixels", reason) from None
    except FileNotFoundError:
        raise UnreadablePicture("missing pictures", "there is no such file") from None
    except UnidentifiedImageError:
        raise UnreadablePicture("unreadable pictures", "not an image format") from None
    except Exception as broken:  # Pillow's decoders raise a dozen types for broken files
        reason = (str(broken).splitlines() or [type(broken).__name__])[0]
        raise UnreadablePicture("unreadable pictures", reason) from None


def opened(source: Path | bytes) -> Image:
    """The picture as Pillow opens it, not decoded yet: its format, size, mode and metadata."""
    from PIL import Image

    with warnings.catch_warnings():
        # twice this many pixels are an error
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)


@dataclass(frozen=True)
class Description:
    """A picture file as it is, and what `open_picture` does to its pixels."""

    size: tuple[int, int]
    mode: str
    treatments: tuple[str, ...]


def described(source: Path | bytes) -> Description:
    """The file's header; the pixels are not decoded. Raises UnreadablePicture."""
    with refusals():
        picture = opened(source)
        orientation = picture.getexif().get(ORIENTATION, 1)
        conditions = {
            f"transparency on {BACKGROUND}": picture.has_transparency_data,
            "16 bits scaled to 8": picture.mode.startswith("I"),
            "turned as EXIF says": orientation not in (0, 1),
            "first frame only": getattr(picture, "n_frames", 1) > 1,
        }
        treatments = tuple(name for name, holds in conditions.items() if holds)
        return Description(picture.size, picture.mode, treatments)


def _rgb(picture: Image) -> Image:
    from PIL import Image, ImageOps

    picture.load()
    with contextlib.suppress(Exception):  # broken metadata do not make the pixels unreadable
        picture = ImageOps.exif_transpose(picture)
    if picture.mode == "F":
        raise ValueError("floating-point pixels have no defined range; save it with 8 or 16 bits")
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.mode == "La":
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, BACKGROUND), picture)
    return picture.convert("RGB")


def _eight_bits(picture: Image) -> Image:
    """A grey picture of 16 bits, scaled; Pillow's own conversion clips it at 255."""
    from PIL import Image

    pixels = np.asarray(picture).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > MAX_16_BITS:
        raise ValueError("pixels of 32 bits; save it with 8 or 16 bits")
    return Image.fromarray(((pixels * 255 + MAX_16_BITS // 2) // MAX_16_BITS).astype(np.uint8))
