"""The icons that the bundled parts are pretrained on: names, captions, and what is kept from training."""

import importlib
import io
import json
import re
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tasks.bundled import icon_pictures, icons
from tasks.bundled.icons import SETS, Icon, held_out_names, thing_of, trained_names, unet_names
from tasks.diffusion.worlds.objects import Objects
from tasks.errors import TaskError

CARD = Path(__file__).parents[2] / "tasks/bundled/CARD.md"
NAMES = [f"{colour} {thing}" for thing in ("koala", "spoon", "train") for colour in ("old", "new", "wet", "dry")]
SVG = f'<svg {icons.NAMESPACES} viewBox="0 0 4 4"><rect x="1" y="1" width="2" height="2" fill="#ff0000"/></svg>'


@pytest.fixture
def red_squares(monkeypatch):
    """A few red squares instead of the icons, which come from npm."""
    pytest.importorskip("resvg_py")
    rows = [Icon(icon_set, name, SVG) for icon_set in ("noto", "twemoji") for name in NAMES]
    for module in (icons, icon_pictures):
        monkeypatch.setattr(module, "icons", lambda: rows)
    monkeypatch.setattr(icon_pictures, "_rasters", lambda: [icon_pictures.raster(SVG) for _ in rows])
    return rows


def forget_names():
    for names in (held_out_names, trained_names, unet_names):
        names.cache_clear()


@pytest.fixture(autouse=True)
def names_of_the_test():
    forget_names()
    yield
    forget_names()


@pytest.mark.parametrize("name", SETS)
def test_the_card_names_every_set_with_its_version_and_licence(name):
    (row,) = [line for line in CARD.read_text().splitlines() if line.startswith(f"| `@iconify-json/{name}`")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[1] == SETS[name].version
    assert cells[3].replace(" ", "-") == SETS[name].licence


@pytest.mark.parametrize(
    ("first", "second"),
    [("cat face", "cat"), ("clinking glasses", "clinking glass"), ("man running", "woman running"),
     ("red heart", "blue heart"), ("diploma 1", "diploma 2"), ("glass", "glasses"), ("house", "houses")],
)  # fmt: skip
def test_variants_of_a_thing_have_one_key(first, second):
    assert thing_of(first) == thing_of(second)


def test_no_other_picture_of_a_held_out_thing_is_trained(monkeypatch):
    outline = f'<path d="M0 0{" 1 2 3" * 20}"/>'
    rows = [Icon("noto", f"{thing} {i}", "") for thing in ("cat", "dog", "owl") for i in ("abc", "def", "ghi", "jkl")]
    chosen = {"cat abc", "owl def"}
    monkeypatch.setattr(icons, "_is_chosen", chosen.__contains__)

    def held_out_with(*others):
        monkeypatch.setattr(icons, "icons", lambda: [*rows, *others])
        forget_names()
        return held_out_names()

    name = min(chosen)
    assert name in held_out_with()
    assert name not in held_out_with(Icon("twemoji", f"red {name}", ""))
    assert name not in held_out_with(Icon("twemoji", "another name", "", aliases=(name,)))
    same = [Icon("twemoji", "first", outline), Icon("twemoji", name, outline)]
    assert name not in held_out_with(*same)


def test_the_unet_draws_what_two_sets_show(monkeypatch):
    shared = ["koala", "woman", "spoon", "man cook", "person running facing right"]
    rows = [Icon(icon_set, name, "") for icon_set in ("noto", "twemoji") for name in shared]
    monkeypatch.setattr(icons, "icons", lambda: [*rows, Icon("noto", "chart", ""), Icon("noto", "chart", "")])
    monkeypatch.setattr(icons, "held_out_names", lambda: frozenset(["spoon"]))
    assert unet_names() == {"koala", "woman"}


@pytest.mark.parametrize(
    ("name", "words"),
    [("koala", "a koala"), ("unicorn", "a unicorn"), ("apple", "an apple"), ("hourglass done", "an hourglass done"),
     ("grapes", "grapes"), ("two hearts", "two hearts"), ("bus", "a bus"), ("money with wings", "a money with wings"),
     ("busts in silhouette", "busts in silhouette"), ("people hugging", "people hugging")],
)  # fmt: skip
def test_articles(name, words):
    pytest.importorskip("inflect")
    assert icon_pictures.noun_phrase(name) == words


def test_captions_share_the_grammar_of_the_drawn_worlds():
    pytest.importorskip("inflect")
    koala = {"kind": "koala", "colour": "red", "size": "small", "background": "sky"}
    of_the_world = {re.sub("small |red ", "", caption) for caption in Objects().captions(koala)}
    of_the_icon = icon_pictures.captions_of(Icon("twemoji", "koala", ""), "sky")
    assert of_the_world <= {caption.replace("flat picture", "drawing") for caption in of_the_icon}
    assert of_the_icon[0] == "a picture of a koala"


def test_pictures_of_held_out_names_are_apart(red_squares, monkeypatch):
    pytest.importorskip("inflect")
    monkeypatch.setattr(icons, "_is_chosen", lambda name: name.endswith("koala"))
    train, test = (icon_pictures.icon_pictures(names(), 5, copies=3) for names in (trained_names, held_out_names))
    assert (len(train), len(test)) == (48, 24)
    assert not any("koala" in caption for caption in train.captions)
    assert all("koala" in caption for caption in test.captions)


def test_pictures_show_the_icon_on_the_background_of_the_caption(red_squares):
    pytest.importorskip("inflect")
    drawn = icon_pictures.icon_pictures({*NAMES}, 5, copies=8)
    assert drawn.pixels.shape[1:] == (3, 64, 64)
    assert np.allclose(drawn.pixels[:, :, 32, 32].float().mean(dim=0), [255, 0, 0], atol=3)
    assert torch.equal(icon_pictures.icon_pictures({*NAMES}, 5, copies=8).pixels, drawn.pixels)
    said = [re.search(r"(\w+) background$", caption) for caption in drawn.captions]
    named = [(match[1], corner) for match, corner in zip(said, drawn.pixels[:, :, 0, 0], strict=True) if match]
    assert len({background for background, _ in named}) > 5
    for background, corner in named:
        assert np.allclose(corner, icon_pictures.ICON_BACKGROUNDS[background], atol=5)


@pytest.mark.parametrize("recipe", ["contrastive", "vae", "unet"])
def test_training_reads_neither_openmoji_nor_the_unets_the_creatures(red_squares, monkeypatch, recipe):
    pytest.importorskip("inflect")
    from tasks.bundled import pictures
    from tasks.diffusion.data import openmoji

    module = importlib.import_module(f"tasks.bundled.recipes.{recipe}")

    def refuse(*_):
        raise AssertionError("OpenMoji in training")

    monkeypatch.setattr(openmoji, "names", refuse)
    monkeypatch.setattr(openmoji, "rasterise", refuse)
    few = {world: getattr(pictures, world)(2) for world in ("objects", "creatures")}
    for world, drawings in few.items():
        monkeypatch.setattr(pictures, world, lambda *_, drawings=drawings, **__: drawings)
    captions = [caption for part in module.training_sets() for caption in part.captions]
    assert any("spoon" in caption for caption in captions)
    seen = any(caption in captions for caption in few["creatures"].captions)
    assert seen == (recipe != "unet")  # whose task the creatures are


@pytest.fixture
def package(monkeypatch, tmp_path):
    """Write a set's package where `npm` would put it."""
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path))
    (tmp_path / "icons").mkdir()

    def write(name, licence, drawings):
        with tarfile.open(tmp_path / f"icons/iconify-json-{name}-{SETS[name].version}.tgz", "w:gz") as archive:
            for part, content in (("info", {"license": {"spdx": licence}}), ("icons", drawings)):
                data = json.dumps(content).encode()
                member = tarfile.TarInfo(f"package/{part}.json")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))

    return write


def test_a_package_is_read_without_what_shows_no_thing(package):
    body = {"body": "<g/>"}
    person = {f"man-bald{tone}": body for tone in ("", "-light", "-medium-dark", "-medium")}
    left_out = {name: body for name in ("flag-fiji", "letter-a", "keycap-3", "woman-dark-skin-tone", "left-arrow")}
    cars = {"police-car-light": body, "police-car": body}
    drawings = {
        "icons": {"koala": body | {"width": 8}, "old": body | {"hidden": True}} | person | cars | left_out,
        "aliases": {"small-bear": {"parent": "koala"}},
        "width": 4,
        "height": 4,
    }
    package("noto", "Apache-2.0", drawings)
    koala, *others = icons._icons_of("noto")
    assert (koala.name, koala.aliases) == ("koala", ("small bear",))
    assert 'viewBox="0 0 8 4"' in koala.svg
    assert [icon.name for icon in others] == ["bald man", "police car light", "police car"]


def test_a_package_under_another_licence_is_refused(package):
    package("noto", "GPL-3.0", {"icons": {}})
    with pytest.raises(TaskError, match=r"is under GPL-3.0, not under Apache-2.0 as the card says"):
        list(icons._icons_of("noto"))


def test_without_npm_the_sentence_says_where_the_package_goes(monkeypatch, tmp_path):
    monkeypatch.setenv("ADAPTER_TESTBED_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(TaskError, match=r"install npm, or put .*iconify-json-noto-1\.2\.9\.tgz there"):
        list(icons._icons_of("noto"))
