"""Every registered method on every kind of backbone. A new method is tested without an edit here."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from adapters.backbone import Backbone
from adapters.base import Adapter, adapter_registry
from tests.contract import tiny

KINDS = [pytest.param(kind, marks=[pytest.mark.slow] * (kind not in tiny.USUAL)) for kind in tiny.BUILDERS]


@pytest.fixture(params=KINDS)
def backbone(request) -> Backbone:
    """A fresh tiny model, with the same weights each time."""
    return copy.deepcopy(tiny.built(request.param))


@pytest.fixture(scope="module")  # a group that outlives this module would make other tests train in parallel
def process_group(tmp_path_factory) -> Iterator[None]:
    """Data-parallel training in one process."""
    store = tmp_path_factory.mktemp("group") / "store"
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", world_size=1, rank=0)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def twin(backbone) -> Backbone:
    """A second copy of the same model, without an adapter."""
    return copy.deepcopy(backbone)


def label(adapter: Adapter) -> str:
    settings = [f"{name}={value}" for name, value in vars(adapter).items() if value != vars(type(adapter)()).get(name)]
    return "-".join([adapter.name, *settings])


EXAMPLES = [cls(**settings) for cls in adapter_registry().values() for settings in cls.examples]


def examples_fixture(name: str, condition: Callable[[Adapter], bool] = lambda adapter: True) -> Any:
    """A fixture that yields the examples of all methods for which a fact of the class holds."""
    return pytest.fixture(params=[a for a in EXAMPLES if condition(a)], ids=label, name=name)(
        lambda request: request.param
    )


adapter = examples_fixture("adapter")
mergeable = examples_fixture("mergeable", lambda a: a.mergeable)
not_mergeable = examples_fixture("not_mergeable", lambda a: not a.mergeable)
with_known_formats = examples_fixture("with_known_formats", lambda a: a.formats is not None)
with_formula = examples_fixture("with_formula", lambda a: type(a).parameter_count is not Adapter.parameter_count)
without_formula = examples_fixture("without_formula", lambda a: type(a).parameter_count is Adapter.parameter_count)
