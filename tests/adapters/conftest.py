"""Tiny models to compare with reference implementations; each test seeds itself."""

import copy

import pytest

from adapters.backbone import Backbone
from tests.contract import tiny


@pytest.fixture
def gpt2() -> Backbone:
    return copy.deepcopy(tiny.built("gpt2"))


@pytest.fixture
def llama() -> Backbone:
    return copy.deepcopy(tiny.built("llama"))


@pytest.fixture
def unet() -> Backbone:
    return copy.deepcopy(tiny.built("unet"))


@pytest.fixture(params=["gpt2", "llama"])
def language_model(request) -> Backbone:
    return copy.deepcopy(tiny.built(request.param))
