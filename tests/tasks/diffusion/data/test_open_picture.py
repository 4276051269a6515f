"""One function opens pictures: each case against the pixels that a person sees."""

import contextlib
import io
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.diffusion.data.open_picture import UnreadablePicture, described, open_picture
from tasks.diffusion.dreambooth import DreamBooth
from tasks.errors import TaskError
from tests.tasks.diffusion.data.test_data import read, write_folder

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(picture, format="png", **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(open_picture(content))


@pytest.mark.parametrize(("alpha", "expected"), [(0, WHITE), (255, RED), (51, (255, 204, 204))])
def test_transparency_shows_a_white_background(alpha, expected):
    assert (pixels_of(saved(Image.new("RGBA", (64, 64), (*RED, alpha)))) == expected).all()


def palette_with_transparency() -> bytes:
    picture = Image.new("P", (8, 8), 0)
    picture.putpalette([0, 0, 0, *RED])
    picture.putpixel((3, 2), 1)
    return saved(picture, transparency=0)


def grey_with_transparency() -> bytes:
    picture = Image.new("LA", (8, 8), (0, 0))
    picture.putpixel((3, 2), (0, 255))
    return saved(picture)


@pytest.mark.parametrize(
    ("content", "expected"),
    [(palette_with_transparency(), RED), (grey_with_transparency(), (0, 0, 0))],
    ids=["palette", "grey"],
)
def test_a_palette_and_grey_may_be_transparent_too(content, expected):
    pixels = pixels_of(content).copy()
    assert tuple(pixels[2, 3]) == expected
    pixels[2, 3] = WHITE
    assert (pixels == WHITE).all()


@pytest.mark.parametrize("format", ["png", "tiff", "ppm"])
def test_sixteen_bits_are_scaled(format):
    ramp = np.linspace(0, 65535, 64 * 64).round().astype(np.uint16).reshape(64, 64)
    pixels = pixels_of(saved(Image.fromarray(ramp), format))
    np.testing.assert_allclose(pixels[..., 0], ramp / 257, atol=0.5001)
    assert abs(pixels.mean() - 127.5) < 0.5


def test_a_picture_is_turned_as_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show it 90 degrees clockwise
    picture = Image.new("RGB", (64, 32), "blue")
    picture.paste(RED, (0, 0, 32, 32))  # the left half, which a viewer sees on top
    pixels = pixels_of(saved(picture, "jpeg", exif=exif)).astype(int)
    assert pixels.shape == (64, 32, 3)
    assert abs(pixels[8, 16] - RED).max() < 9
    assert abs(pixels[56, 16] - (0, 0, 255)).max() < 9


def files_of_every_mode() -> dict[str, bytes]:
    """A picture of each mode in each format that Pillow writes it in, by both."""
    files = {}
    for mode, format in product(sorted(Image.MODES), ["png", "tiff", "jpeg", "gif", "webp", "bmp", "ppm"]):
        with contextlib.suppress(OSError, ValueError, KeyError, SystemError):
            files[f"{mode}-{format}"] = saved(Image.new(mode, (8, 6)), format)
    return files


FILES = files_of_every_mode()
FLOATS = {name for name, content in FILES.items() if described(content).mode == "F"}


@pytest.mark.parametrize("name", sorted(FILES.keys() - FLOATS))
def test_every_mode_gives_rgb(name):
    assert pixels_of(FILES[name]).shape == (6, 8, 3)
    assert described(FILES[name]).size == (8, 6)


@pytest.mark.parametrize("name", sorted(FLOATS))
def test_floating_point_pixels_are_refused(name):
    with pytest.raises(UnreadablePicture, match="floating-point"):
        open_picture(FILES[name])


def test_pillow_writes_most_modes():
    assert len(FILES) > 30
    assert "F-tiff" in FLOATS


@pytest.fixture
def bomb(tmp_path):
    """Ten pictures, of which one has 200 million pixels in 24 kB."""
    folder = write_folder(tmp_path / "p", 10)
    Image.new("1", (20000, 10000)).save(folder / "3.png")
    return folder


def test_a_decompression_bomb_is_named_or_skipped(bomb):
    with pytest.raises(TaskError, match=r"3\.png.*more than 178 million pixels.*--task\.on-bad-item skip"):
        read(bomb)
    sets = read(bomb, on_bad_item="skip")
    assert sets.facts["left_out"] == {"pictures with too many pixels": 1}
    with pytest.raises(TaskError, match=r"3\.png' cannot be read \(more than 178 million"):
        DreamBooth(data=str(bomb), instance_prompt="sks").splits(32)


def test_both_picture_tasks_read_the_same_pixels(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    Image.new("RGBA", (40, 40), (*RED, 0)).save(folder / "1.png")
    captioned, subject = read(folder), DreamBooth(data=str(folder), instance_prompt="sks").splits(32)
    assert (captioned.train.pixels[captioned.train.names.index("1.png")] == 255).all()
    assert (subject.train.pixels[subject.train.names.index("1.png")] == 255).all()


def test_a_resource_fork_of_macos_is_not_a_picture(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    Path(folder / "._1.png").write_bytes(b"Mac OS X")
    assert len(DreamBooth(data=str(folder), instance_prompt="sks").splits(32).train) == 7
