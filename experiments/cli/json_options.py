"""Options whose value is one word of JSON: those of type dict[str, Any]."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING, Any, get_args

if TYPE_CHECKING:
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo


@lru_cache(maxsize=1)
def registry() -> ConstructorRegistry:
    """tyro's rules for the types that it does not parse on its own."""
    from tyro.constructors import ConstructorRegistry

    rules = ConstructorRegistry()
    rules.primitive_rule(_rule)
    return rules


def is_json(hint: Any) -> bool:
    """Whether values of this type are JSON objects on the command line."""
    return dict[str, Any] in (hint, *get_args(hint))


def _rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[dict[str, Any]] | None:
    from tyro.constructors import PrimitiveConstructorSpec

    if not is_json(info.type):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="JSON",
        instance_from_str=lambda words: _object(words[0]),
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [json.dumps(value)],
    )


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object such as '{{\"r\": 8}}', not {text}")
    return value
