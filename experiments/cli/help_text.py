"""Docstrings as help: an option's text as one paragraph, and lists of names with their summaries."""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints


def set_option_help(cls: type, defaults: Any = None) -> None:
    """Prepare a dataclass whose options tyro shows: their texts, metavars and defaults, those of the class or given.

    On its own tyro 1.0 breaks the text at each indented line of the docstring, writes `{None}|INT`, and shows
    defaults of None and of no values, whose meaning the text has in a last sentence, "Default: ...". Of such a
    sentence and a value only one is shown.
    """
    import tyro

    documented, hints = attribute_docstrings(cls), get_type_hints(cls, include_extras=True)
    for option in fields(cls):  # pyright: ignore[reportArgumentType]
        text, hint = documented.get(option.name, ""), hints[option.name]
        if not _is_empty(_default(option) if defaults is None else getattr(defaults, option.name)):
            text = re.sub(r" Default: .*$", "", text)
        setattr(option, "metadata", MappingProxyType({**option.metadata, "help": text}))  # noqa: B010
        if _is_empty(_default(option)):
            metavar = _metavar(hint) if option.default is None and get_origin(hint) is not Annotated else None
            shown = tyro.conf.arg(metavar=metavar, help_behavior_hint=_default_unless_empty)
            owner = next(each for each in cls.__mro__ if option.name in inspect.get_annotations(each))
            owner.__annotations__[option.name] = Annotated[hint, shown]


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (tuple, dict)) and not value)


def _metavar(hint: Any) -> str:
    """How help names the values of `hint`, a union with None."""
    return "|".join(_kind_text(kind) for kind in get_args(hint) if kind is not type(None))


def _kind_text(kind: Any) -> str:
    if kind is bool or get_origin(kind) is Literal:
        return "{" + ",".join(map(str, get_args(kind) or (True, False))) + "}"
    if get_origin(kind) is tuple:
        return f"[{get_args(kind)[0].__name__.upper()} ...]"
    return kind.__name__.upper()


def _default_unless_empty(default: str) -> str:
    return "" if default in ("None", "", "'{}'") else f"(default: {default})"


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
