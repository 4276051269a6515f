"""Attribute docstrings as the help of options: one paragraph each, whatever their lines are."""

from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

from docstring_parser import parse_from_object


def one_paragraph_each(classes: Iterable[type]) -> None:
    """Set every dataclass field's docstring as its `help` metadata, which tyro shows unchanged.

    On its own tyro 1.0 breaks the text wherever an indented line of the docstring begins.
    """
    for cls in classes:
        known = texts(cls)
        for field in fields(cls):  # pyright: ignore[reportArgumentType]
            if field.name in known:
                setattr(field, "metadata", MappingProxyType({**field.metadata, "help": known[field.name]}))  # noqa: B010


def texts(cls: Any) -> dict[str, str]:
    """The docstrings of the attributes of a class and its parents, by name."""
    found = {}
    for owner in filter(is_dataclass, reversed(cls.__mro__)):
        written = parse_from_object(owner).params
        found |= {param.arg_name: " ".join(param.description.split()) for param in written if param.description}
    return found
