"""LyCORIS' algorithms by name: their classes, their options, and those that our training loop cannot train."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from typing import Any

from adapters.errors import AdapterError

INCOMPATIBLE = {
    "dylora": "it draws a new rank in every forward pass, in evaluation too",
    "tlora": "it masks ranks by the timestep through calls from its own training loop",
}
# arguments of LyCORIS' classes that are settings of ours, or that only say how the same update is computed
NOT_OPTIONS = {
    "self", "lora_name", "org_module", "multiplier", "lora_dim", "bypass_mode", "use_scalar", "args", "kwargs",
}  # fmt: skip


def algorithm(name: str) -> Any:
    """The class of LyCORIS' modules. Raises AdapterError for an unknown or incompatible one, or without the package."""
    classes = algorithms()
    if name not in classes:
        raise AdapterError(f"LyCORIS has no algorithm '{name}'; it has {', '.join(sorted(classes))}")
    if name in INCOMPATIBLE:
        raise AdapterError(f"LyCORIS' {name} is not supported, because {INCOMPATIBLE[name]}: choose another")
    return classes[name]


def algorithms() -> Mapping[str, Any]:
    """All algorithms of the installed LyCORIS. Raises AdapterError without the package."""
    logger = logging.getLogger("LyCORIS")  # it prints its settings to standard output
    try:
        from lycoris.wrapper import network_module_dict
    except ImportError:
        raise AdapterError(
            "the method `lycoris` needs the package lycoris-lora: pip install 'adapter-testbed[lycoris]'"
        ) from None
    logger.setLevel(logging.ERROR)
    return network_module_dict


def option_names(name: str) -> set[str]:
    """The options of an algorithm: the arguments of its class that are not settings here."""
    return set(inspect.signature(algorithm(name).__init__).parameters) - NOT_OPTIONS


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Raise AdapterError for an unknown option, a negative alpha, or a probability outside [0, 1)."""
    valid = option_names(name)
    unknown = sorted(options.keys() - valid)
    if unknown:
        raise AdapterError(
            f"--adapter.options: LyCORIS' {name} has no option '{unknown[0]}'; it has {', '.join(sorted(valid))}"
        )
    for option, value in options.items():
        if option == "alpha" and not (_is_number(value) and value > 0):
            raise AdapterError(f"--adapter.options: alpha must be above 0, not {value}")
        if option.endswith("dropout") and not (_is_number(value) and 0 <= value < 1):
            raise AdapterError(f"--adapter.options: {option} must be at least 0 and below 1, not {value}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
