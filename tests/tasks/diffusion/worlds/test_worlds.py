"""The drawn worlds: deterministic, complete, with combinations that training never sees."""

import numpy as np
import pytest

from tasks.diffusion.worlds import REVISION
from tasks.diffusion.worlds.character import Character
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.drawing import SIZE
from tasks.diffusion.worlds.objects import Objects

WORLDS = [Objects(), Creatures()]


@pytest.mark.parametrize("world", WORLDS)
def test_a_drawing_depends_on_seed_and_index_alone(world):
    first, again = world.example(3, 5), world.example(3, 5)
    assert first.caption == again.caption
    assert first.attributes == again.attributes
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert first.pixels.shape == (SIZE, SIZE, 3)
    assert not np.array_equal(first.pixels, world.example(4, 5).pixels)
    assert not np.array_equal(first.pixels, world.example(3, 6).pixels)


@pytest.mark.parametrize("world", WORLDS)
def test_every_value_of_every_attribute_can_be_drawn(world):
    rng = np.random.default_rng(0)
    plain = world.sample_attributes(rng)
    for name, values in world.attributes.items():
        pictures = [world.draw(plain | {name: value}, np.random.default_rng(1)) for value in values]
        distinct = {picture.tobytes() for picture in pictures}
        assert len(distinct) == len(values), name


@pytest.mark.parametrize("world", WORLDS)
def test_the_first_caption_says_everything(world):
    rng = np.random.default_rng(0)
    captions = {}
    for _ in range(300):
        attributes = world.sample_attributes(rng)
        caption = world.captions(attributes)[0]
        assert captions.setdefault(caption, attributes) == attributes


def test_a_sixth_of_the_creatures_is_held_out_and_never_drawn_for_training():
    world = Creatures()
    held = [world.held_out(world.sample_attributes(np.random.default_rng(i))) for i in range(600)]
    assert 0.1 < np.mean(held) < 0.25
    assert not any(world.held_out(world.example(1, i, held_out=False).attributes) for i in range(100))
    assert all(world.held_out(world.example(1, i, held_out=True).attributes) for i in range(100))


CHECKSUMS = {"drawings-64": [187.8, 77.3, 106.1, 125.7, 166.6, 141.5, 51.7, 101.1, 179.7, 146.8, 157.1, 13.9]}


def test_the_revision_names_these_drawings():
    """If drawings changed on purpose, change `REVISION` too: records of others keep apart."""
    drawn = np.stack([world.example(0, index).pixels for world in (*WORLDS, Character()) for index in range(4)])
    drawn = drawn.reshape(len(drawn), -1)
    projection = np.random.default_rng(0).standard_normal(drawn.shape[1]) / np.sqrt(drawn.shape[1])
    # ten changed pixels change it by about 5, other rounding of all edges by less than 0.5
    np.testing.assert_allclose(drawn @ projection, CHECKSUMS[REVISION], atol=1)
