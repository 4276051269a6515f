"""Crops and flips: which squares are used, and that cached latents equal those encoded on the fly."""

import numpy as np
import pytest
import torch

from tasks.bundled.bundled_bases import STABLE_DIFFUSION
from tasks.diffusion.data.augmentation import Augmentation, cropped
from tasks.diffusion.data.splits import Pictures
from tasks.diffusion.model import bases
from tasks.diffusion.model.latents import OnTheFlyLatents, cached_latents


def pictures(height: int, width: int, count: int = 2) -> Pictures:
    generator = np.random.default_rng(0)
    whole = [torch.from_numpy(generator.integers(0, 255, (3, height, width), np.uint8)) for _ in range(count)]
    return Pictures(torch.stack([cropped(each, 0.5) for each in whole]), ["x"] * count, whole=whole)


def test_crops_are_evenly_spaced_from_end_to_end():
    wide = pictures(32, 50)
    variants = [Augmentation(crops=3).variant(wide, number)[0] for number in range(3)]
    for pixels, left in zip(variants, (0, 9, 18), strict=True):
        assert torch.equal(pixels, wide.whole[0][:, :, left : left + 32])
    tall = pictures(50, 32)
    assert torch.equal(Augmentation(crops=2).variant(tall, 1)[0], tall.whole[0][:, 18:, :])


def test_every_crop_has_a_mirrored_variant():
    both = Augmentation(crops=2, flip=True)
    wide = pictures(32, 40)
    assert both.variants(wide) == 4
    plain, mirrored = both.variant(wide, 2), both.variant(wide, 3)
    assert torch.equal(mirrored, plain.flip(-1))
    assert not torch.equal(mirrored, plain)
    assert Augmentation(crops=4).variants(Pictures(wide.pixels, wide.captions)) == 1, "a square has one crop"


@pytest.fixture(scope="module")
def base():
    return bases.load(STABLE_DIFFUSION, torch.device("cpu"))


def test_cached_latents_equal_those_encoded_on_the_fly(base):
    wide, augmentation = pictures(32, 41), Augmentation(crops=2, flip=True)
    stored = cached_latents(base, wide, augmentation)
    fresh = OnTheFlyLatents(base, wide, augmentation)
    assert stored.shape == fresh.shape
    index = torch.tensor([1])
    for number, (position, chance) in enumerate([(0.0, 0.9), (0.0, 0.1), (0.9999, 0.9), (0.9999, 0.1)]):
        expected = stored.variants[index, number]
        torch.testing.assert_close(
            fresh.moments(index, torch.tensor([[position, chance]])), expected, atol=1e-4, rtol=1e-4
        )


def test_a_released_part_is_read_again_with_the_same_weights(base):
    before = {name: tensor.clone() for name, tensor in base.vae.state_dict().items()}
    base.release("vae")
    assert "vae" not in vars(base)
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.vae.state_dict().items())
    with pytest.raises(AttributeError):
        _ = base.unheard_of
