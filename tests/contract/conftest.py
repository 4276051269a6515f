"""Every registered method on every kind of backbone; a new method's file is tested without an edit here."""

import copy
from collections.abc import Iterator

import pytest
import torch

from adapters.backbone import Backbone
from adapters.base import Adapter, registry
from tests.contract import tiny


@pytest.fixture(params=tiny.BUILDERS)
def backbone(request) -> Backbone:
    """A tiny model of its own for each test, with weights that are the same each time."""
    return copy.deepcopy(tiny.built(request.param))


@pytest.fixture(scope="module")  # a group that outlived this module would make other tests' trainings parallel
def process_group(tmp_path_factory) -> Iterator[None]:
    """Data parallel training in one process."""
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def twin(backbone) -> Backbone:
    """A second copy of the same model, untouched."""
    return copy.deepcopy(backbone)


def variants() -> list[Adapter]:
    return [kind(**settings) for kind in registry().values() for settings in kind.examples]


def label(adapter: Adapter) -> str:
    settings = [f"{name}={value}" for name, value in vars(adapter).items() if value != vars(type(adapter)()).get(name)]
    return "-".join([adapter.name, *settings])


@pytest.fixture(params=variants(), ids=label)
def adapter(request) -> Adapter:
    """Each method with its default settings and with each of its other examples."""
    return request.param
