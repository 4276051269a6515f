"""Hypothesis strategies for what people type and broken disks deliver, mostly close to something valid."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hypothesis import strategies as st

from adapters.base import adapter_registry
from experiments.config import Train
from tasks.base import task_registry

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
# the operating system passes every byte except NUL
WORD = st.text(st.characters(blacklist_characters="\0"), max_size=12)
LONG = st.integers(200, 5000).map(lambda length: "x" * length)
NUMBER = st.integers(-(10**25), 10**25).map(str) | st.floats().map(str) | st.sampled_from(["0", "-1", "1e400", "0x10"])
VALUE = (
    NUMBER | WORD | LONG | st.sampled_from(["", "None", "True", "..", "/", "/dev/null", "a/../../b", "~", "--", "-"])
)


def options() -> list[str]:
    """Every option of a run, of all methods and tasks."""
    parts = {"adapter": adapter_registry().values(), "task": task_registry().values(), "train": [Train]}
    named = {f"--{part}.{f.name.replace('_', '-')}" for part, kinds in parts.items() for k in kinds for f in fields(k)}
    return [*sorted(named), "--runs", "--overwrite", "--no-overwrite"]


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A method, a task and some options, some of which do not exist."""
    words = [
        draw(st.sampled_from(sorted(adapter_registry())) | WORD),
        draw(st.sampled_from(sorted(task_registry())) | WORD),
    ]
    known = st.sampled_from(options())
    for _ in range(draw(st.integers(0, 4))):
        words.append(draw(known | known | known | WORD))
        words += draw(st.lists(VALUE, max_size=2))
    return words


@st.composite
def damaged(draw: st.DrawFn, whole: bytes) -> bytes:
    """A file with bytes changed, inserted or cut off; rarely a completely different one."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(content)))
        match draw(st.sampled_from(["change", "insert", "cut", "replace"])):
            case "change" if place < len(content):
                content[place] = draw(st.integers(0, 255))
            case "insert":
                content[place:place] = draw(st.binary(max_size=20))
            case "cut":
                del content[place:]
            case "replace" if draw(st.integers(0, 9)) == 0:
                content = bytearray(draw(st.binary(max_size=200)))
    return bytes(content)


@st.composite
def changed(draw: st.DrawFn, record: Any) -> Any:
    """A JSON value with one part, at any depth, replaced or removed."""
    if not isinstance(record, dict) or not record or draw(st.integers(0, 3)) == 0:
        return draw(JSON)
    key = draw(st.sampled_from(sorted(record)))
    if draw(st.integers(0, 5)) == 0:
        return {name: value for name, value in record.items() if name != key}
    return record | {key: draw(changed(record[key]))}
