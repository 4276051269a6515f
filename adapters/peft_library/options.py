"""Options of peft's methods: read, checked, and made into peft's configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from adapters.errors import AdapterError, first_line

INCOMPATIBLE = {
    "SHADOW": "it trains a second, small model beside the layers, with a loss of its own",
    "POLY": "it takes the number of a task with every batch",
    "XLORA": "it mixes adapters that are already trained",
}
OWN_TARGETS = ("ADAPTION_PROMPT", "TRAINABLE_TOKENS")  # peft finds their layers: attention modules, embeddings
REQUIRED: Mapping[str, Mapping[str, Any]] = {  # examples of options that peft itself fails without
    "ADAPTION_PROMPT": {"adapter_len": 10, "adapter_layers": 2},
    "TRAINABLE_TOKENS": {"token_indices": [50, 51]},
}
NEEDS_DATA = ("eva", "corda", "lora_ga")  # initialisations from activations or gradients on training data


def config_class_of(method: str) -> Any:
    """peft's configuration class. Raises AdapterError for a method that our training loop cannot train."""
    from peft.config import PromptLearningConfig
    from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

    classes = {str(kind.value): config_class for kind, config_class in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    kind = method.upper()
    if kind not in classes:
        raise AdapterError(f"peft has no method '{method}'; it has {', '.join(sorted(classes)).lower()}")
    if kind in INCOMPATIBLE:
        raise AdapterError(f"peft's {method} is not supported, because {INCOMPATIBLE[kind]}: choose another")
    if issubclass(classes[kind], PromptLearningConfig):
        raise AdapterError(
            f"peft's {method} lengthens the model's sequence, which the tasks' losses do not expect: "
            "use the method `prefix`"
        )
    return classes[kind]


def option_names(method: str) -> set[str]:
    """The settings of peft's configuration class. Raises AdapterError as `config_class_of` does."""
    return {f.name for f in fields(config_class_of(method))}


def configure(method: str, options: Mapping[str, Any], defaults: Mapping[str, Any]) -> Any:
    """peft's configuration with the options over the defaults. Raises AdapterError if they cannot work."""
    check_options(method, options)
    config_class = config_class_of(method)
    try:
        return config_class(**{**defaults, **options})
    except ImportError as missing:
        raise AdapterError(f"peft's {method} needs another package: {first_line(missing)}") from None
    except Exception as failure:  # each of peft's classes has checks of its own
        raise AdapterError(f"--adapter.options for peft's {method}: {first_line(failure)}") from None


def check_options(method: str, options: Mapping[str, Any]) -> None:
    """Raise AdapterError for an unknown or a missing option, a scale of zero, or an initialisation from data."""
    valid = option_names(method)
    unknown = sorted(options.keys() - valid)
    if unknown:
        raise AdapterError(
            f"--adapter.options: peft's {method} has no option '{unknown[0]}'; it has {', '.join(sorted(valid))}"
        )
    required = REQUIRED.get(method.upper(), {})
    if missing := required.keys() - options.keys():
        raise AdapterError(
            f"--adapter.options: peft's {method} needs {' and '.join(sorted(missing))}, for example "
            f"'{json.dumps(required)}'"
        )
    for name, value in options.items():
        if name.endswith("alpha") and isinstance(value, int | float) and not value > 0:
            raise AdapterError(f"--adapter.options: {name} must be above 0, not {value}")
        if name == "r" and not (isinstance(value, int) and value >= 1):
            raise AdapterError(f"--adapter.options for peft's {method}: r must be an integer from 1, not {value}")
    start = options.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(NEEDS_DATA):
        raise AdapterError(
            f"--adapter.options: init_lora_weights '{start}' needs training data before the run, which is not "
            "supported: choose true, gaussian, orthogonal, pissa, pissa_niter_4, olora or loftq"
        )


class JsonOptions:
    """A mixin for methods with a field `options`."""

    options: str | dict[str, Any]

    def __post_init__(self) -> None:
        """Store the options in one form, whichever way they were written: the fingerprint is then the same."""
        object.__setattr__(self, "options", parse_options(self.options))

    @property
    def given(self) -> dict[str, Any]:
        """The options as they are stored."""
        return cast(dict[str, Any], self.options)


def parse_options(options: str | Mapping[str, Any]) -> dict[str, Any]:
    """The options as a JSON object, from JSON text or a mapping. Raises AdapterError if they are neither."""
    expected = "--adapter.options must be a JSON object such as '{\"r\": 8}'"
    try:
        text = options if isinstance(options, str) else json.dumps(options)
        parsed = json.loads(text, parse_constant=_refuse_constant)
    except (TypeError, ValueError) as failure:
        raise AdapterError(f"{expected}: {failure}") from None
    if not isinstance(parsed, dict):
        raise AdapterError(f"{expected}, not {json.dumps(parsed)}")
    return parsed


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a finite number")
