"""Hypothesis strategies for what people type and broken disks deliver, mostly close to something valid."""

from __future__ import annotations

import io
from dataclasses import fields
from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st
from PIL import Image

from adapters.base import adapter_registry
from experiments.bench import LoopOptions
from experiments.config import Train
from experiments.costs import CostsOptions
from experiments.generate import GenerateOptions
from experiments.intrinsic import IntrinsicOptions
from experiments.plan import PlanOptions
from experiments.sample import SampleOptions
from experiments.sweep import SweepOptions
from experiments.truncate import TruncateOptions
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


# what divides, overflows, never compares, or says the opposite of what was meant
ODD_NUMBERS = (
    "nan",
    "inf",
    "-inf",
    "0",
    "-0.0",
    "-1",
    "1",
    "0.5",
    "1e-300",
    "1e300",
    "2147483648",
    "4294967296",
    "1" * 26,
)
ODD_NUMBER = st.sampled_from(ODD_NUMBERS) | st.integers(-10, 10).map(str) | st.floats().map(str)
COMMANDS = {
    "bench": LoopOptions,
    "costs": CostsOptions,
    "generate": GenerateOptions,
    "intrinsic": IntrinsicOptions,
    "plan": PlanOptions,
    "sample": SampleOptions,
    "sweep": SweepOptions,
    "truncate": TruncateOptions,
}
# every mode of Pillow, and the formats of which each writes some
MODES = (
    "1",
    "L",
    "P",
    "RGB",
    "RGBA",
    "CMYK",
    "YCbCr",
    "LAB",
    "HSV",
    "I",
    "F",
    "LA",
    "PA",
    "RGBX",
    "RGBa",
    "La",
    "I;16",
)
IMAGE_FORMATS = ("png", "tiff", "jpeg", "webp", "gif", "bmp")


def option_classes() -> dict[str, Any]:
    """Every dataclass whose fields are options: methods, tasks, training, and the commands' own."""
    methods = {f"adapter.{name}": cls for name, cls in adapter_registry().items()}
    tasks = {f"task.{name}": cls for name, cls in task_registry().items()}
    return methods | tasks | {"train": Train} | COMMANDS


def numeric_fields(cls: Any) -> list[str]:
    """The fields that hold a number, several of them or a number for each of some names."""
    hints = get_type_hints(cls)
    return [f.name for f in fields(cls) if {int, float} & {hints[f.name], *get_args(hints[f.name])}]


@st.composite
def numbers(draw: st.DrawFn) -> tuple[str, list[str]]:
    """The name of an option's class, and the words that set one of its numbers."""
    classes = {name: cls for name, cls in option_classes().items() if numeric_fields(cls)}
    name = draw(st.sampled_from(sorted(classes)))
    setting = draw(st.sampled_from(numeric_fields(classes[name])))
    part = name.split(".")[0]
    option = f"--{setting}" if name in COMMANDS else f"--{part}.{setting}"
    key = ["query"] if "dict" in str(get_type_hints(classes[name])[setting]) else []
    return name, [option.replace("_", "-"), *key, draw(ODD_NUMBER)]


@st.composite
def pictures(draw: st.DrawFn) -> bytes:
    """A picture of any of Pillow's modes, in a format that has it, perhaps turned, transparent or of an odd size."""
    mode = draw(st.sampled_from(MODES))
    size = draw(st.sampled_from([(1, 1), (1, 300), (8, 8), (31, 17)]))
    picture = Image.new(mode, size, draw(st.sampled_from([0, 1])))
    options: dict[str, Any] = {}
    if draw(st.booleans()):
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = draw(st.integers(0, 9))  # the orientation
    if mode in ("1", "L", "P") and draw(st.booleans()):
        options["transparency"] = 0
    for format in draw(st.permutations(IMAGE_FORMATS)):
        content = io.BytesIO()
        try:
            picture.save(content, format, **options)
        except (OSError, ValueError, KeyError):  # this format has no such mode
            continue
        return content.getvalue()
    return draw(st.binary(max_size=50))  # no format has it


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
