"""What a run is (`RunConfig`) and how a command line becomes one; the only file that imports the CLI library."""

import contextlib
import difflib
import importlib.util
import io
import math
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, make_dataclass, replace
from inspect import getdoc
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from adapters.base import Adapter
from adapters.base import registry as adapter_registry
from experiments.cli.help_text import one_paragraph_each
from tasks.base import Task
from tasks.base import registry as task_registry
from tasks.distributed import started

Schedule = Literal["constant", "linear", "cosine", "cosine_with_restarts", "polynomial"]


class UsageError(ValueError):
    """What the user typed cannot work: one sentence that says what was expected and what to do."""


@dataclass(frozen=True)
class Train:
    """Training settings, the same for every method; what is not given is what the task's base recommends."""

    steps: int | None = None
    """Optimizer steps."""
    epochs: int | None = None
    """Passes over the training data, in the place of steps."""
    batch: int | None = None
    """Items a step and process (a step of gradient accumulation). N processes of batch b take the items, the noise
    and the gradient of one process of batch N b; only dropout draws otherwise."""
    processes: int = 1
    """Processes that train together; torchrun sets it: torchrun --nproc_per_node 2 -m experiments.run ..."""
    learning_rate: float | None = None
    """Peak learning rate of AdamW."""
    schedule: Schedule | None = None
    """Of the learning rate after the warm-up."""
    warm_up: int | None = None
    """Steps over which the learning rate rises."""
    weight_decay: float = 0.01
    """Decoupled weight decay of AdamW."""
    optimizer: Literal["adamw", "adamw-fused", "adamw-8bit"] = "adamw"
    """AdamW as it is, in one kernel, or with its moments in 8 bits (bitsandbytes, Dettmers et al. 2021)."""
    ema: float | None = None
    """Decay, such as 0.9999, of a moving average of the trained parameters, which is then what the run gives."""
    gradient_accumulation: int = 1
    """Batches whose gradients are averaged in one optimizer step."""
    maximal_gradient_norm: float = 1.0
    """Gradients are scaled down to this norm."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, more time."""
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    """Of the forward pass (autocast); weights stay in fp32. Default: fp32, or what the base's card says on CUDA."""
    checkpoint_every: int | None = None
    """Steps between checkpoints, from which an interrupted run goes on. Default: the base's card, else 100."""
    validate_every: int | None = None
    """Steps between validation losses. Default: a tenth of the steps."""
    seed: int = 0
    """Of everything random in the run: initialisation, order of the data, noise."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to run; "auto" takes CUDA where there is one."""
    deterministic: bool = False
    """On CUDA: only algorithms that give the same bits each time (slower); on a CPU they do anyway."""
    tracker: Literal["none", "tensorboard", "wandb"] = "none"
    """Also log the steps to a tracker, through accelerate."""


FALLBACK = {
    "steps": 1000,
    "batch": 8,
    "learning_rate": 1e-4,
    "schedule": "constant",
    "warm_up": 0,
    "precision": "fp32",
    "checkpoint_every": 100,
}
LENGTHS = ("steps", "epochs")  # a training has one of them
AT_LEAST = {
    "steps": 1,
    "epochs": 1,
    "batch": 1,
    "warm_up": 0,
    "weight_decay": 0,
    "gradient_accumulation": 1,
    "checkpoint_every": 1,
    "seed": 0,
}


WITHOUT_EFFECT = ("checkpoint_every", "tracker")  # training settings that change no result
UNSAID = Train(precision="fp32")  # training settings that a fingerprint leaves out


@dataclass(frozen=True)
class RunConfig:
    """One run: a method, a task, the training settings."""

    adapter: Adapter
    task: Task
    train: Train = field(default_factory=Train)

    def resolved(self) -> "RunConfig":
        """The same with every training setting filled in: the user's, else the base's card's, else the fallback.

        On a CPU the task asks for what one can do (`Task.on_cpu`).
        """
        card = self.task.recommended(self.adapter.known_as)
        recommended = FALLBACK | card
        if self.train.steps is not None and "steps" in card:  # a short training has a short warm-up
            recommended["warm_up"] = round(recommended["warm_up"] * min(1, self.train.steps / card["steps"]))
        if any(getattr(self.train, length) is not None for length in LENGTHS):
            recommended |= dict.fromkeys(LENGTHS)
        elif "epochs" in card:
            recommended["steps"] = None
        task = self.task
        if not _on_cuda(self.train, recommended["precision"]):
            recommended["precision"], task = FALLBACK["precision"], task.on_cpu()
        known = {f.name for f in fields(Train)}
        open_fields = {k: v for k, v in recommended.items() if k in known and getattr(self.train, k) is None}
        train = _with_validation(replace(self.train, processes=_processes(self.train), **open_fields))
        _check_train(train)
        return replace(self, task=task, train=train)

    def as_record(self) -> dict[str, Any]:
        """All settings as JSON holds them."""
        return {
            "adapter": {"name": self.adapter.name} | asdict(self.adapter),
            "task": {"name": self.task.name} | asdict(self.task),
            "train": asdict(self.train),
        }

    def identity(self) -> dict[str, Any]:
        """What tells this run from others: its size, and the settings not at their default that can change the result.

        Its hash is the run's fingerprint; so a setting that a later version adds does not rename finished runs.
        """
        default = RunConfig(type(self.adapter)(), type(self.task)(), UNSAID).as_record()
        always = ("name", self.adapter.size_field)
        return {
            part: {
                name: value
                for name, value in settings.items()
                if name in always or (name not in WITHOUT_EFFECT and value != default[part][name])
            }
            for part, settings in self.as_record().items()
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "RunConfig":
        """The configuration that `as_record` gave. Raises UsageError for a name or value that does not fit."""
        try:
            adapter, task, train = (dict(record[part]) for part in ("adapter", "task", "train"))
            method, name = str(adapter.pop("name")), str(task.pop("name"))
        except (KeyError, TypeError, ValueError):
            raise UsageError(
                "this is no run's configuration: expected adapter and task, each with its name, and train"
            ) from None
        adapter_class = _named(adapter_registry(), method, "method")
        task_class = _named(task_registry(), name, "task")
        return cls(_built(adapter_class, adapter), _built(task_class, task), _built(Train, train))


def _named(known: Mapping[str, type], name: str, what: str) -> type:
    if name not in known:
        raise UsageError(f"there is no {what} {name!r}{meant(name, known)}; the {what}s are {', '.join(sorted(known))}")
    return known[name]


def _built(cls: type, values: Mapping[str, Any]) -> Any:
    """An instance from JSON values, each checked against the type that the dataclass declares."""
    import msgspec

    known = {f.name for f in fields(cls)}
    unknown = set(values) - known
    if unknown:
        name = sorted(unknown)[0]
        raise UsageError(f"{cls.__name__} has no setting {name!r}{meant(name, known)}")
    try:
        return msgspec.convert(values, cls)
    except msgspec.ValidationError as wrong:
        raise UsageError(f"the settings of {cls.__name__} cannot be read ({wrong}): mend the configuration") from None


def _processes(train: Train) -> int:
    """How many processes torchrun started."""
    if train.processes not in (1, started()):
        raise UsageError(
            f"--train.processes {train.processes} needs as many processes, and {started()} was started: "
            f"torchrun --nproc_per_node {train.processes} -m experiments.run ..."
        )
    return started()


def counted(train: Train, items: int | None) -> Train:
    """The same with the steps that its epochs of `items` have; a last batch that is not full is filled up."""
    if train.epochs is None or train.batch is None:
        return train
    if items is None:
        raise UsageError("this task does not say how many items make an epoch: give --train.steps")
    steps = train.epochs * math.ceil(items / (train.batch * train.gradient_accumulation * train.processes))
    return _with_validation(replace(train, steps=steps))


def _with_validation(train: Train) -> Train:
    """Validation ten times, unless the user says how often; where the steps are not counted yet, not yet said."""
    if train.validate_every is not None or train.steps is None:
        return train
    return replace(train, validate_every=max(1, train.steps // 10))


def _on_cuda(train: Train, precision: str) -> bool:
    """Whether the run will be on CUDA; asked only where a card recommends another precision than fp32."""
    if train.device != "auto" or precision == FALLBACK["precision"]:
        return train.device == "cuda"
    import torch

    return torch.cuda.is_available()


def _check_train(train: Train) -> None:
    for name, least in AT_LEAST.items():
        value = getattr(train, name)
        if value is not None and not value >= least:
            # a NaN is not at least anything
            raise UsageError(f"--train.{name.replace('_', '-')} must be at least {least}, not {value}")
    if train.steps is not None and train.epochs is not None:
        raise UsageError("give --train.steps or --train.epochs, not both")
    if train.ema is not None and not 0 < train.ema < 1:
        raise UsageError(f"--train.ema must be above 0 and below 1, not {train.ema}")
    if train.optimizer == "adamw-8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            "--train.optimizer adamw-8bit needs bitsandbytes, which is not installed: pip install bitsandbytes, "
            "or take adamw-fused"
        )
    if train.learning_rate is None or not 0 < train.learning_rate <= 10:
        raise UsageError(f"--train.learning-rate must be above 0 and at most 10, not {train.learning_rate}")
    if not train.maximal_gradient_norm > 0:
        raise UsageError(f"--train.maximal-gradient-norm must be above 0, not {train.maximal_gradient_norm}")


def meant(name: str, known: Sequence[str] | Mapping | set) -> str:
    """The words "; did you mean ...?" where a valid name is near, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean '{near[0]}'?)" if near else ""


Options = TypeVar("Options")


def parse(options: type[Options], arguments: Sequence[str], program: str) -> tuple[RunConfig, Options]:
    """The configuration and the command's own `options` (a dataclass with defaults; its docstring is the help).

    Every command that takes METHOD TASK and their settings is parsed here; a wrong command line ends the program with
    one sentence and status 2.
    """
    import tyro

    methods, tasks = adapter_registry(), task_registry()
    _check_names(arguments, methods, tasks, program)
    if asks_help(arguments):
        one_paragraph_each([*methods.values(), *tasks.values(), Train, options])
    adapter_type, task_type = (
        tyro.extras.subcommand_type_from_defaults(
            {name: cls() for name, cls in sorted(known.items())},
            {name: first_sentence(cls) for name, cls in known.items()},
            prefix_names=False,
        )
        for known in (methods, tasks)
    )
    parts = [
        ("adapter", Annotated[adapter_type, tyro.conf.arg(help="The method.")]),
        ("task", Annotated[task_type, tyro.conf.arg(help="The task.")]),
        ("train", Annotated[Train, tyro.conf.arg(help="Training settings.")], field(default_factory=Train)),
        ("options", Annotated[options, tyro.conf.arg(name="")], field(default_factory=options)),
    ]
    found, unknown = tyro.cli(
        make_dataclass("Command", parts),
        args=arguments,
        prog=program,
        description=getdoc(options),
        config=(tyro.conf.CascadeSubcommandArgs,),
        return_unknown_args=True,
    )
    config = RunConfig(found.adapter, found.task, found.train)
    if unknown:
        parts = {"--adapter.": config.adapter, "--task.": config.task, "--train.": config.train, "--": found.options}
        _refuse_option(unknown[0], parts, f"{program} {config.adapter.name} {config.task.name} --help")
    return config, found.options


@dataclass(frozen=True)
class Given:
    """What a command line says of task and training, and no more: it goes over what a sweep or a study says."""

    task_name: str | None = None
    task: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def over(self, config: RunConfig) -> RunConfig:
        """The configuration with the given settings in the place of its own."""
        return replace(config, task=replace(config.task, **self.task), train=replace(config.train, **self.train))


def parse_task(
    options: type[Options], arguments: Sequence[str], program: str, description: str | None = None
) -> tuple[Given, Options]:
    """The sibling of `parse` for a command that takes [TASK] and no method: what was given, and the command's options.

    TASK, where there is one, comes first. A wrong command line ends the program with one sentence and status 2.
    """
    import tyro

    tasks, helps = task_registry(), asks_help(arguments)
    if helps:
        one_paragraph_each([*tasks.values(), Train, options])
    named = bool(arguments) and not arguments[0].startswith("-")
    if named and arguments[0] not in tasks:
        stop(f"there is no task '{arguments[0]}'{meant(arguments[0], tasks)}; the tasks are {', '.join(sorted(tasks))}")
    names = _option_names(arguments)
    for name in {name for name in names if names.count(name) > 1}:
        stop(f"{name} is given twice: give all its values at once")
    parts: list[Any] = [
        ("train", Annotated[Train, tyro.conf.arg(help="Training settings.")], field(default_factory=Train)),
        ("options", Annotated[options, tyro.conf.arg(name="")], field(default_factory=options)),
    ]
    if named or helps:
        task_type = tyro.extras.subcommand_type_from_defaults(
            {name: cls() for name, cls in sorted(tasks.items())},
            {name: first_sentence(cls) for name, cls in tasks.items()},
            prefix_names=False,
        )
        parts.insert(0, ("task", Annotated[task_type, tyro.conf.arg(help="The task.")]))
    found, unknown = tyro.cli(
        make_dataclass("Command", parts),
        args=arguments,
        prog=program,
        description=description or getdoc(options),
        config=(tyro.conf.CascadeSubcommandArgs,),
        return_unknown_args=True,
    )
    task = getattr(found, "task", None)
    if unknown:
        settings = {"--task.": task} if task is not None else {}
        help_command = f"{program} {task.name} --help" if task is not None else f"{program} TASK --help"
        _refuse_option(unknown[0], {**settings, "--train.": found.train, "--": found.options}, help_command)
    given = Given(
        None if task is None else task.name,
        {} if task is None else _given(names, "--task.", task),
        _given(names, "--train.", found.train),
    )
    return given, found.options


def asks_help(arguments: Sequence[str]) -> bool:
    return bool({"-h", "--help"}.intersection(arguments))


def _option_names(arguments: Sequence[str]) -> list[str]:
    """The options that are named, as `--help` writes them."""
    return [word.split("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]


def _given(names: Sequence[str], prefix: str, value: Any) -> dict[str, Any]:
    """The settings of `value` that the command line names."""
    spelt = {f.name: f.name.replace("_", "-") for f in fields(value)}
    return {
        name: getattr(value, name)
        for name, word in spelt.items()
        if f"{prefix}{word}" in names or f"{prefix}no-{word}" in names
    }


def method_settings(words: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings by method from METHOD.SETTING=VALUE, where VALUE is what --adapter.SETTING takes on other commands.

    Raises UsageError for an unknown method or setting, or a value that does not fit.
    """
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        place, equals, value = word.partition("=")
        method, dot, setting = place.partition(".")
        if not equals or not dot:
            raise UsageError(f"expected METHOD.SETTING=VALUE, for example lora.alpha=8, not '{word}'")
        cls = _named(adapter_registry(), method, "method")
        setting = setting.replace("-", "_")
        found.setdefault(method, {})[setting] = _setting(cls, setting, value)
    return found


def _setting(cls: type[Adapter], setting: str, value: str) -> Any:
    """One setting's value from its text. Raises UsageError where it is unknown or does not fit."""
    import tyro

    known = {f.name for f in fields(cls)}
    if setting not in known:
        raise UsageError(f"{cls.name} has no setting '{setting}'{meant(setting, known)}; it has {_listed(known)}")
    several = isinstance(getattr(cls(), setting), (tuple, dict))
    option = f"--{setting.replace('_', '-')}"
    words = [option, *(shlex.split(value) if several else [value])]
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # tyro's own message is a page long
            parsed = tyro.cli(cls, args=words, config=(tyro.conf.FlagConversionOff,), console_outputs=False)
    except (SystemExit, ValueError):
        raise UsageError(
            f"'{value}' is no value for {cls.name}.{setting}; see --adapter.{setting.replace('_', '-')} in "
            f"`python -m experiments.run {cls.name} TASK --help`"
        ) from None
    return getattr(parsed, setting)


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def first_sentence(cls: type) -> str:
    """The method's or task's help, on one line."""
    return " ".join((cls.__doc__ or "").split())


def _check_names(
    arguments: Sequence[str], methods: Mapping[str, type], tasks: Mapping[str, type], program: str
) -> None:
    """The first two words must name a method and a task; tyro's own message for that is a page long."""
    words = [word for word in arguments[:2] if not word.startswith("-")]
    for word, known, what in zip(words, (methods, tasks), ("method", "task"), strict=False):
        if word not in known:
            stop(f"there is no {what} '{word}'{meant(word, known)}; the {what}s are {', '.join(sorted(known))}")
    if len(words) < 2 and not {"-h", "--help"}.intersection(arguments):
        stop(
            f"expected METHOD TASK, for example: {program} lora sd-pokemon; "
            f"the methods are {', '.join(sorted(methods))}; the tasks are {', '.join(sorted(tasks))}"
        )


def _refuse_option(option: str, parts: Mapping[str, Any], help_command: str) -> NoReturn:
    """`parts`: what holds the valid options, by the prefix of their names."""
    known = [f"{prefix}{f.name.replace('_', '-')}" for prefix, part in parts.items() for f in fields(part)]
    stop(f"unknown option '{option}'{meant(option, known)}; all options: {help_command}")


def stop(message: str, status: int = 2) -> NoReturn:
    """End the program with one sentence on standard error."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def command(main: Callable[[], None]) -> None:
    """Run a command's main: an error that the user can mend is one sentence, one that is ours keeps its traceback."""
    from adapters.base import AdapterError
    from experiments.training.signals import Interrupted
    from tasks.base import TaskError

    try:
        main()
    except (UsageError, AdapterError, TaskError) as error:
        stop(str(error))
    except BrokenPipeError:  # `| head` has seen enough
        sys.stderr.close()
    except Interrupted as stopped:
        stop(str(stopped), stopped.status)
    except KeyboardInterrupt:
        stop("interrupted; the same command goes on from the last checkpoint", status=130)
