"""Docstrings as help: an option's text as one paragraph, and lists of names with their summaries."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from inspect import getdoc
from types import MappingProxyType
from typing import Any


def one_paragraph_each(classes: Iterable[type]) -> None:
    """Set every dataclass field's docstring as its `help` metadata, which tyro shows unchanged.

    On its own tyro 1.0 breaks the text at each indented line of the docstring.
    """
    for cls in classes:
        documented = attribute_docstrings(cls)
        for field in fields(cls):  # pyright: ignore[reportArgumentType]
            if field.name in documented and "help" not in field.metadata:
                setattr(field, "metadata", MappingProxyType({**field.metadata, "help": documented[field.name]}))  # noqa: B010


def attribute_docstrings(cls: Any) -> dict[str, str]:
    """The docstrings of the attributes of a dataclass and its parents, by name, each on one line."""
    from docstring_parser import parse_from_object

    docstrings = {}
    for owner in filter(is_dataclass, reversed(cls.__mro__)):
        parameters = parse_from_object(owner).params
        docstrings |= {p.arg_name: " ".join(p.description.split()) for p in parameters if p.description}
    return docstrings


def summary(cls: type) -> str:
    """The first sentence of a docstring, on one line, without its references in parentheses."""
    text = re.sub(r"\s*\([^()]*\d{4}[^()]*(\([^()]*\)[^()]*)*\)", "", " ".join((getdoc(cls) or "").split()))
    return re.split(r"(?<=[.?!])\s", text, maxsplit=1)[0].rstrip(".")


def listing(title: str, classes: Mapping[str, type]) -> str:
    """A titled list of names with their summaries, one line each, cut to the terminal's width."""
    width, terminal = max(map(len, classes)), shutil.get_terminal_size().columns
    rows = [f"  {name:{width}}  {summary(cls)}" for name, cls in classes.items()]
    return "\n".join([f"{title}:", *(_cut(row, terminal) for row in rows)])


def with_examples(docstring: str) -> str:
    """A docstring whose paragraphs are joined lines; lines that show a command stay lines."""
    paragraphs = []
    for paragraph in docstring.split("\n\n"):
        lines: list[str] = []
        for line in paragraph.splitlines():
            starts = not lines or line.startswith((" ", "python -m ")) or lines[-1].lstrip().startswith("python -m ")
            line = f"  {line}" if line.startswith("python -m ") else line  # tyro joins lines that are not indented
            lines = [*lines, line] if starts else [*lines[:-1], f"{lines[-1]} {line}"]
        paragraphs.append("\n".join(lines))
    return "\n\n".join(paragraphs)


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 4].rsplit(' ', 1)[0]} ..."
