"""A model with other children in some places: its own code and all other weights, without a copy of them."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn


def with_modules(module: Any, **children: nn.Module) -> Any:
    """A module that shares everything with `module` except these children; the original is unchanged."""
    twin = copy.copy(module)
    twin._modules = {**module._modules, **children}
    return twin
