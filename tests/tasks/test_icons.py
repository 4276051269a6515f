"""The icons that the bundled parts are pretrained on: names, captions, and what is kept from training."""

from pathlib import Path

import numpy as np
import pytest

from tasks.bundled import icons
from tasks.bundled.icons import SETS, Icon, captions_of

CARD = Path(__file__).parents[2] / "tasks/bundled/CARD.md"
RECIPES = CARD.parent / "recipes"
NAMES = [f"{thing} {number}" for thing in ("koala", "spoon", "train") for number in ("one", "two", "three", "four")]
SVG = '<rect width="4" height="4" fill="#ff0000"/>'


@pytest.mark.parametrize("name", SETS)
def test_the_card_names_every_set_with_its_version_and_licence(name):
    (row,) = [line for line in CARD.read_text().splitlines() if line.startswith(f"| `@iconify-json/{name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == SETS[name][0]
    assert cells[3] in ("Apache-2.0", "MIT", "CC BY 4.0")


def test_no_recipe_trains_on_openmoji():
    users = [file.name for file in RECIPES.glob("*.py") if "openmoji" in file.read_text()]
    assert users == ["vae.py"]  # its figures
    training = (RECIPES / "vae.py").read_text().split("def build")[1].split("def make_vae")[0]
    assert "openmoji" not in training


def test_the_same_words_are_held_out_together():
    for first, second in (
        ("cat face", "cat"),
        ("heart with arrow", "arrow heart"),
        ("clinking glass", "clinking glasses"),
    ):
        assert Icon(first, "noto", "").held_out == Icon(second, "twemoji", "").held_out
    share = np.mean([Icon(f"{name} {i}", "noto", "").held_out for name in NAMES for i in range(100)])
    assert share == pytest.approx(0.1, abs=0.03)


def test_captions_share_the_grammar_of_the_drawn_worlds():
    first, *others = captions_of("unicorn", "flat", "sky")
    assert first == "a picture of a unicorn"
    assert "a picture of a unicorn on a sky background" in others
    assert "a flat picture of a unicorn, sky background" in others
    assert captions_of("apple", "flat", "sky")[0] == "a picture of an apple"


def test_pictures_show_the_icon_on_its_ground(monkeypatch):
    pytest.importorskip("resvg_py")
    drawn = [Icon(name, "noto", f'<svg {icons.NAMESPACES} viewBox="0 0 4 4">{SVG}</svg>') for name in NAMES]
    monkeypatch.setattr(icons, "icons", lambda: drawn)
    monkeypatch.setattr(icons, "_rasters", lambda: [icons._raster(icon.svg) for icon in drawn])
    seen, kept = (icons.icon_pictures(5, held_out, each=3, named=True) for held_out in (False, True))
    assert len(seen) + len(kept) == 3 * len(NAMES)
    assert not {*seen.captions} & {*kept.captions}
    assert seen.pixels.shape[1:] == (3, 64, 64)
    assert (seen.pixels[:, :, 32, 32].float().mean(dim=0) - icons.torch.tensor([255.0, 0, 0])).abs().max() < 3
    again = icons.icon_pictures(5, each=3)
    assert icons.torch.equal(again.pixels, seen.pixels)
    assert len(seen.pixels[:, :, 0, 0].unique(dim=0)) > 5  # grounds
