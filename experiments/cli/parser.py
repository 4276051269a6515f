"""The parser of every command: METHOD TASK [options], [TASK] [options], options alone, or COMMAND [options].

A command's own options are a frozen dataclass. Its docstring is the command's help and its attribute docstrings are
the help of the options; a field without a default is required. A wrong command line ends the program with one
sentence on standard error and exit status 2.

METHOD and TASK are read before the rest, so that only their settings are parsed: `--help` stays fast, and lists the
methods and tasks until both are given.
"""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import field, fields, make_dataclass
from inspect import getdoc
from typing import Annotated, Any, TypeVar

from adapters.base import method_names
from experiments.cli.errors import stop
from experiments.cli.help_text import listing, set_option_help, with_examples
from experiments.cli.hints import refuse_renamed, refuse_unknown, spelled_out
from experiments.cli.json_options import registry
from experiments.cli.overrides import Overrides, named_settings
from experiments.cli.tyro_errors import captured, sentence
from experiments.config import RunConfig, Train, unknown_name
from experiments.errors import check_numbers
from tasks.base import Task, task_registry

Options = TypeVar("Options")


def parse(options: type[Options], arguments: Sequence[str], program: str) -> tuple[RunConfig, Options]:
    """METHOD TASK [options]: the run configuration, and the command's own options."""
    registries = {"adapter": method_names(), "task": task_registry()}
    words = _leading_words(arguments, 2)
    parts = {
        part: _chosen(registry, word, "method" if part == "adapter" else part)
        for (part, registry), word in zip(registries.items(), words, strict=False)
    }
    if len(words) < 2 and not asks_help(arguments):
        stop(
            f"expected METHOD TASK first, for example: {program} lora sd-pokemon; the methods are "
            f"{', '.join(sorted(registries['adapter']))}; the tasks are {', '.join(sorted(registries['task']))}"
        )
    if parts:
        parts["train"] = Train
    description = _described(getdoc(options), {k: v for k, v in registries.items() if k not in parts})
    line = _Line(program, parts, options, arguments[len(words) :], description, ("adapter", "task"))
    if len(words) == 2 and asks_help(arguments):
        line.defaults["train"] = RunConfig(parts["adapter"](), parts["task"]()).resolved().train
    parsed = _parse(line)
    return RunConfig(parsed.adapter, parsed.task, parsed.train), parsed.options


def parse_task(
    options: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> tuple[Overrides, Options]:
    """[TASK] [options]: the settings that the command line overrides, and the command's own options."""
    tasks = task_registry()
    words = _leading_words(arguments, 1)
    parts: dict[str, Any] = {"task": _chosen(tasks, words[0], "task")} if words else {}
    parts["train"] = Train
    text = _described(description or getdoc(options), {} if words else {"task": tasks})
    line = _Line(program, parts, options, arguments[len(words) :], text, ("task",))
    parsed = _parse(line)
    task, names = getattr(parsed, "task", None), line.option_names()
    overrides = Overrides(
        None if task is None else task.name,
        {} if task is None else named_settings(names, "task", task),
        named_settings(names, "train", parsed.train),
    )
    return overrides, parsed.options


def parse_task_settings(options: type[Options], arguments: Sequence[str], program: str) -> tuple[Task, Options]:
    """TASK [options]: a task with its settings, and the command's own options."""
    tasks, words = task_registry(), _leading_words(arguments, 1)
    if not words and not asks_help(arguments):
        stop(f"expected TASK first, for example: {program} sd-pokemon; the tasks are {', '.join(sorted(tasks))}")
    parts = {"task": _chosen(tasks, words[0], "task")} if words else {}
    text = _described(getdoc(options), {} if words else {"task": tasks})
    parsed = _parse(_Line(program, parts, options, arguments[len(words) :], text, ("task",)))
    return parsed.task, parsed.options


def parse_options(
    options: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> Options:
    """Options and positional arguments of a command that takes neither METHOD nor TASK.

    A positional argument is a field annotated with `tyro.conf.Positional`; one that is a tuple takes several words:

        @dataclass(frozen=True)
        class SampleOptions:
            '''Sample images from finished runs.

            For example: python -m experiments.sample runs/sd-pokemon/lora/578baabefc48 --seed 1
            '''

            runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
            '''Folders of finished runs.'''
            seed: int = 0
            '''Seed of the initial noise.'''

        options = parse_options(SampleOptions, sys.argv[1:], "python -m experiments.sample")

    The annotation needs `import tyro` at the top of the command's file: annotations are evaluated while parsing. A
    required tuple accepts no words at all; check for an empty one.
    """
    return _parse(_Line(program, {}, options, arguments, _described(description or getdoc(options), {}))).options


def parse_command(
    commands: Mapping[str, type], arguments: Sequence[str], program: str, description: str | None = None
) -> tuple[str, Any]:
    """COMMAND [options]: the command's name, and its options as `parse_options` reads them.

    For example `parse_command({"loop": LoopOptions, "memory": MemoryOptions}, arguments, PROGRAM)` returns
    `("loop", LoopOptions(...))`. `--help` without a command lists the commands, each with the first sentence of
    its options' docstring.
    """
    if arguments and arguments[0] in commands:
        name = arguments[0]
        return name, parse_options(commands[name], arguments[1:], f"{program} {name}")
    if asks_help(arguments[:1]):
        print(f"usage: {program} COMMAND [OPTIONS]\n")
        if description:
            print(f"{with_examples(description)}\n")
        print(listing("commands", commands))
        print(f"\nThe options of a command: {program} COMMAND --help")
        raise SystemExit(0)
    if arguments and not arguments[0].startswith("-"):
        stop(unknown_name(commands, arguments[0], "command"))
    stop(f"expected a COMMAND: {', '.join(commands)}; see {program} --help")


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether the command line asks for help."""
    return bool({"-h", "--help"}.intersection(arguments))


class _Line:
    """A command line without its METHOD and TASK: the words, and the dataclasses that they set."""

    def __init__(
        self,
        program: str,
        parts: Mapping[str, Any],
        options: type,
        arguments: Sequence[str],
        description: str,
        leading: Sequence[str] = (),
    ):
        """`parts` are dataclasses by their option prefix; `leading` those of them that a leading word chooses."""
        self.parts, self.options = parts, options
        self.defaults: dict[str, Any] = {}  # of the parts, where help shows other values than the dataclass
        self.description = description
        names = [parts[key].name if key in parts else key.replace("adapter", "method").upper() for key in leading]
        self.program = " ".join([program, *names])
        refuse_renamed(arguments, parts, options)
        self.arguments = spelled_out(arguments, parts, options)

    def option_names(self) -> list[str]:
        """The options that the line names, spelled as `--help` spells them."""
        return [word.split("=")[0].replace("_", "-") for word in self.arguments if word.startswith("--")]

    def form(self) -> type:
        """The dataclass that tyro fills: the parts under their prefixes, and the command's own options without."""
        import tyro

        own = ("options", Annotated[self.options, tyro.conf.arg(name="")])
        described = [self._prefixed(name, part) for name, part in self.parts.items()]
        return make_dataclass("Command", [*described, own], kw_only=True)

    def _prefixed(self, name: str, part: type) -> tuple[str, Any] | tuple[str, Any, Any]:
        """A field of the form: its name is the prefix of the part's options."""
        import tyro

        titles = {"train": "Training settings."}
        annotated = Annotated[part, tyro.conf.arg(help=titles[name])] if name in titles else part
        default = self.defaults.get(name)
        return (name, annotated) if default is None else (name, annotated, field(default=default))


def _parse(line: _Line) -> Any:
    import tyro

    _refuse_repeated(line)
    wants_help = asks_help(line.arguments)
    if wants_help:
        for name, cls in {**line.parts, "": line.options}.items():
            set_option_help(cls, line.defaults.get(name))
    refusal = io.StringIO()
    try:
        with contextlib.nullcontext() if wants_help else captured(refusal):
            parsed, unknown = tyro.cli(
                line.form(),
                args=line.arguments,
                prog=line.program,
                description=line.description,
                return_unknown_args=True,
                registry=registry(),
            )
    except SystemExit:
        if wants_help:
            raise
        stop(f"{sentence(refusal.getvalue())}; see {line.program} --help")
    if unknown:
        refuse_unknown(unknown, line.arguments, line.parts, line.options, f"{line.program} --help")
    check_numbers(parsed.options)
    return parsed


def _refuse_repeated(line: _Line) -> None:
    """End the program if an option with several values is repeated; of other options the last one counts."""
    names = line.option_names()
    for key, part in [*line.parts.items(), ("", line.options)]:
        for setting in fields(part):
            option = f"--{key}.{setting.name}" if key else f"--{setting.name}"
            option = option.replace("_", "-")
            appends = "UseAppendAction" in str(setting.type)
            if names.count(option) > 1 and not appends and re.search("tuple|Mapping|dict", str(setting.type)):
                stop(f"{option} is given twice: give all its values at once")


def _leading_words(arguments: Sequence[str], most: int) -> list[str]:
    """At most `most` of the words before the first option."""
    count = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return list(arguments[: min(count, most)])


def _chosen(registry: Mapping[str, type], name: str, kind: str) -> type:
    if name not in registry:
        swapped = kind == "method" and name in task_registry()
        order = f"'{name}' is a task: METHOD comes first, then TASK; " if swapped else ""
        stop(f"{order}{unknown_name(registry, name, kind)}")
    return registry[name]


def _described(text: str | None, registries: Mapping[str, Mapping[str, type]]) -> str:
    """A command's description, followed by the methods and tasks from which the command line still has to choose."""
    titles = {"adapter": "methods", "task": "tasks"}
    lists = [listing(titles[part], registry) for part, registry in registries.items()]
    more = (
        ["With METHOD and TASK, --help shows their settings and those of training."] if "adapter" in registries else []
    )
    return "\n\n".join([with_examples(text or ""), *lists, *more])
