"""Docstrings as help: an option's text as one paragraph, and lists of names with their summaries."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


def one_paragraph_each(classes: Iterable[type]) -> None:
    """Set every dataclass field's docstring as its `help` metadata, which tyro shows unchanged.

    On its own tyro 1.0 breaks the text at each indented line of the docstring.
    """
    for cls in classes:
        documented = attribute_docstrings(cls)
        for field in fields(cls):  # pyright: ignore[reportArgumentType]
            if field.name in documented and "help" not in field.metadata:
                setattr(field, "metadata", MappingProxyType({**field.metadata, "help": documented[field.name]}))  # noqa: B010


def hide_none(classes: Iterable[type]) -> None:
    """Show `INT` instead of `{None}|INT`, and no default where it is None: the option's text says what that means."""
    import tyro

    for cls in classes:
        hints = get_type_hints(cls, include_extras=True)
        optional = {f.name for f in fields(cls) if f.default is None}  # pyright: ignore[reportArgumentType]
        for owner in cls.__mro__:
            for name in optional & inspect.get_annotations(owner).keys():
                metavar = None if get_origin(hints[name]) is Annotated else _metavar(hints[name])
                shown = tyro.conf.arg(metavar=metavar, help_behavior_hint=_default_unless_none)
                owner.__annotations__[name] = Annotated[hints[name], shown]


def _metavar(hint: Any) -> str:
    """How help names the values of `hint`, a union with None."""
    (kind,) = [each for each in get_args(hint) if each is not type(None)]
    if kind is bool or get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind) or (True, False))) + "}"
    if get_origin(kind) is tuple:
        return f"[{get_args(kind)[0].__name__.upper()} ...]"
    return kind.__name__.upper()


def _default_unless_none(default: str) -> str:
    return "" if default == "None" else f"(default: {default})"


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
    text = re.sub(r"\s*\([^()]*\d{4}[^()]*(\([^()]*\)[^()]*)*\)", "", " ".join((inspect.getdoc(cls) or "").split()))
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
