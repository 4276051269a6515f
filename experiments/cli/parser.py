"""The parser of every command. Three forms: METHOD TASK [options], [TASK] [options], and options alone.

A command's own options are a frozen dataclass: its docstring is the command's help, its attribute docstrings are the
help of the options. A wrong command line ends the program with one sentence and status 2.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, make_dataclass, replace
from inspect import getdoc
from typing import Annotated, Any, TypeVar

from adapters.base import registry as adapter_registry
from experiments.cli.errors import stop
from experiments.cli.help_text import one_paragraph_each
from experiments.cli.hints import refuse_renamed, refuse_unknown, spelled_out
from experiments.config import RunConfig, Train, registered, unknown_name
from experiments.errors import UsageError, did_you_mean
from tasks.base import registry as task_registry

Options = TypeVar("Options")


def parse(options: type[Options], arguments: Sequence[str], program: str) -> tuple[RunConfig, Options]:
    """METHOD TASK [options]: the run configuration, and the command's own options."""
    methods, tasks = adapter_registry(), task_registry()
    _check_names(arguments, methods, tasks, program)
    words = [word for word in arguments[:2] if not word.startswith("-")]
    parts = {
        "adapter": methods[words[0]]() if words else None,
        "task": tasks[words[1]]() if len(words) > 1 else None,
        "train": Train(),
    }
    parsed = _parse(
        [
            _subcommand("adapter", methods, "The method."),
            _subcommand("task", tasks, "The task."),
            _train(),
            _own(options),
        ],
        options,
        arguments,
        program,
        parts,
        getdoc(options),
        documented=[*methods.values(), *tasks.values(), Train, options],
    )
    return RunConfig(parsed.adapter, parsed.task, parsed.train), parsed.options


@dataclass(frozen=True)
class Overrides:
    """The task and training settings that a command line names; they override those of a sweep or a study."""

    task_name: str | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def apply(self, config: RunConfig) -> RunConfig:
        return replace(config, task=replace(config.task, **self.task), train=replace(config.train, **self.train))


def parse_task(
    options: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> tuple[Overrides, Options]:
    """[TASK] [options]: what the command line overrides, and the command's own options. TASK, if given, is first."""
    tasks, wants_help = task_registry(), asks_help(arguments)
    named = bool(arguments) and not arguments[0].startswith("-")
    if named and arguments[0] not in tasks:
        stop(unknown_name(tasks, arguments[0], "task"))
    subcommand = [_subcommand("task", tasks, "The task.")] if named or wants_help else []
    parts = {"task": tasks[arguments[0]]() if named else None, "train": Train()}
    given = spelled_out(arguments, parts, options)
    parsed = _parse(
        [*subcommand, _train(), _own(options)],
        options,
        arguments,
        program,
        parts,
        description or getdoc(options),
        documented=[*tasks.values(), Train, options],
    )
    task = getattr(parsed, "task", None)
    names = option_names(given)
    overrides = Overrides(
        None if task is None else task.name,
        {} if task is None else _named(names, "--task.", task),
        _named(names, "--train.", parsed.train),
    )
    return overrides, parsed.options


def parse_options(
    options: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> Options:
    """The options of a command that takes neither method nor task."""
    return _parse(
        [_own(options)], options, arguments, program, {}, description or getdoc(options), documented=[options]
    ).options


def _parse(
    form: Sequence[Any],
    options: type,
    arguments: Sequence[str],
    program: str,
    parts: Mapping[str, Any],
    description: str | None,
    documented: Sequence[type],
) -> Any:
    import tyro

    refuse_renamed(arguments, parts)
    arguments = spelled_out(arguments, parts, options)
    names = option_names(arguments)
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        stop(f"{repeated} is given twice: give all its values at once")
    wants_help = asks_help(arguments)
    if wants_help:
        one_paragraph_each(documented)
    refused = io.StringIO()
    try:
        with contextlib.nullcontext() if wants_help else _captured(refused):
            parsed, unknown = tyro.cli(
                make_dataclass("Command", form),
                args=arguments,
                prog=program,
                description=description,
                config=(tyro.conf.CascadeSubcommandArgs,),
                return_unknown_args=True,
            )
    except SystemExit:
        if wants_help:
            raise
        stop(f"{_sentence(refused.getvalue())}; see {_help_command(program, parts)}")
    if unknown:
        refuse_unknown(unknown, arguments, parts, options, _help_command(program, parts))
    return parsed


@contextlib.contextmanager
def _captured(stream: io.StringIO):
    """tyro draws its errors as a box of the terminal's width; captured, the box is wide enough for any sentence."""
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = "2000"
    try:
        with contextlib.redirect_stderr(stream), contextlib.redirect_stdout(stream):
            yield
    finally:
        os.environ.pop("COLUMNS") if before is None else os.environ.update(COLUMNS=before)


def _sentence(box: str) -> str:
    """The first paragraph of an error of tyro, without its frame."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    end = next((i for i, line in enumerate(lines) if not line or set(line) <= {"─"}), len(lines))
    return " ".join(lines[:end]).strip().rstrip(".") or "the command line cannot be read"


def _help_command(program: str, parts: Mapping[str, Any]) -> str:
    names = [
        parts[kind].name if parts[kind] is not None else kind.upper() for kind in ("adapter", "task") if kind in parts
    ]
    return " ".join([program, *names, "--help"])


def _subcommand(field_name: str, registry: Mapping[str, type], text: str) -> tuple[str, Any]:
    import tyro

    subcommands: Any = tyro.extras.subcommand_type_from_defaults(
        {name: cls() for name, cls in sorted(registry.items())},
        {name: summary(cls) for name, cls in registry.items()},
        prefix_names=False,
    )
    return field_name, Annotated[subcommands, tyro.conf.arg(help=text)]


def _train() -> tuple[str, Any, Any]:
    import tyro

    return "train", Annotated[Train, tyro.conf.arg(help="Training settings.")], field(default_factory=Train)


def _own(options: type) -> tuple[str, Any, Any]:
    import tyro

    return "options", Annotated[options, tyro.conf.arg(name="")], field(default_factory=options)


def asks_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"}.intersection(arguments))


def option_names(arguments: Sequence[str]) -> list[str]:
    """The options that a command line names, spelled as `--help` spells them."""
    return [word.split("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]


def _named(names: Sequence[str], prefix: str, value: Any) -> dict[str, Any]:
    """The settings of `value` that the command line names."""
    spelled = {f.name: f.name.replace("_", "-") for f in fields(value)}
    return {
        name: getattr(value, name)
        for name, word in spelled.items()
        if f"{prefix}{word}" in names or f"{prefix}no-{word}" in names
    }


def method_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by method from METHOD.SETTING=VALUE, where VALUE is what --adapter.SETTING takes on other commands.

    Raises UsageError for an unknown method or setting, or a value that does not fit.
    """
    settings: dict[str, dict[str, Any]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        method, dot, setting = place.partition(".")
        if not equals or not dot:
            raise UsageError(f"expected METHOD.SETTING=VALUE, for example lora.alpha=8, not '{word}'")
        cls = registered(adapter_registry(), method, "method")
        setting = setting.replace("-", "_")
        settings.setdefault(method, {})[setting] = _setting(cls, setting, value)
    return settings


def _setting(cls: Any, setting: str, value: str) -> Any:
    """One setting's value from its text. Raises UsageError where it is unknown or does not fit."""
    import shlex

    import tyro

    valid = {f.name for f in fields(cls)}
    if setting not in valid:
        raise UsageError(
            f"{cls.name} has no setting '{setting}'{did_you_mean(setting, valid)}; it has {', '.join(sorted(valid))}"
        )
    several = isinstance(getattr(cls(), setting), (tuple, dict))
    words = [f"--{setting.replace('_', '-')}", *(shlex.split(value) if several else [value])]
    try:
        with _captured(io.StringIO()):
            parsed = tyro.cli(cls, args=words, config=(tyro.conf.FlagConversionOff,), console_outputs=False)
    except (SystemExit, ValueError):
        raise UsageError(
            f"'{value}' is not a value for {cls.name}.{setting}; see --adapter.{setting.replace('_', '-')} in "
            f"`python -m experiments.run {cls.name} TASK --help`"
        ) from None
    return getattr(parsed, setting)


def summary(cls: type) -> str:
    """A method's or task's docstring, on one line."""
    return " ".join((cls.__doc__ or "").split())


def _check_names(
    arguments: Sequence[str], methods: Mapping[str, type], tasks: Mapping[str, type], program: str
) -> None:
    """The first two words must name a method and a task."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    for word, registry, kind in zip(words, (methods, tasks), ("method", "task"), strict=False):
        if word not in registry:
            stop(unknown_name(registry, word, kind))
    if len(words) < 2 and not asks_help(arguments):
        stop(
            f"expected METHOD TASK, for example: {program} lora sd-pokemon; "
            f"the methods are {', '.join(sorted(methods))}; the tasks are {', '.join(sorted(tasks))}"
        )
