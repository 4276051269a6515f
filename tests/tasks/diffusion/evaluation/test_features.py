"""Extractors on real photographs: what the network was trained on decides how its inputs are normalised."""

from importlib.resources import files

import numpy as np
import pytest
import torch
from matplotlib import cbook
from PIL import Image

from tasks.diffusion.evaluation.features import EfficientNetLite0

# All that scikit-image (CC0, NASA) and matplotlib (US Navy) ship in colour and under free licences.
PHOTOGRAPHS = {name: files("skimage") / "data" / name for name in ("astronaut.png", "chelsea.png", "coffee.png")}
PHOTOGRAPHS |= {"rocket.jpg": files("skimage") / "data" / "rocket.jpg"}
PHOTOGRAPHS |= {"grace_hopper.jpg": cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)}
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # what other EfficientNets take


@pytest.fixture(scope="module")
def extractor():
    return EfficientNetLite0()


@pytest.fixture(scope="module")
def photographs():
    """uint8 (5, 3, 256, 256)."""
    squares = [Image.open(str(file)).convert("RGB").resize((256, 256)) for file in PHOTOGRAPHS.values()]
    return torch.stack([torch.from_numpy(np.array(square)) for square in squares]).permute(0, 3, 1, 2)


def errors(extractor, inputs):
    """Median errors over channels of the stem's mean and deviation on inputs (n, 3, h, w).

    Both are in standard deviations of the first batch-norm, whose running statistics are those of the training.
    """
    network = extractor.network
    with torch.no_grad():
        activations = network._conv_stem(inputs)
    norm = network._bn0
    deviation = (norm.running_var + norm.eps).sqrt()
    mean = (activations.mean((0, 2, 3)) - norm.running_mean) / deviation
    return mean.abs().median().item(), (activations.std((0, 2, 3)) / deviation - 1).abs().median().item()


def test_photographs_have_the_activations_of_the_training(extractor, photographs):
    mean, deviation = errors(extractor, extractor.inputs(photographs))
    assert mean < 0.3
    assert deviation < 0.2


def test_photographs_normalised_for_another_network_do_not(extractor, photographs):
    """Its mean is as far off as that of pictures with other contents; its deviation is twice that of the training."""
    pixels = (extractor.inputs(photographs) * 128 + 127) / 255
    centre, scale = (torch.tensor(x).view(1, 3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    right = errors(extractor, extractor.inputs(photographs))
    wrong = errors(extractor, (pixels - centre) / scale)
    assert wrong[0] > 1.3 * right[0]
    assert wrong[1] > 5 * right[1]


def test_the_name_is_not_that_of_the_figures_with_the_other_normalisation(extractor):
    assert extractor.name != "efficientnet-lite0-imagenet-128px"
