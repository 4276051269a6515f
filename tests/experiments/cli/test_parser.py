"""Commands with positional arguments and subcommands, help pages, and tyro's errors in both styles of box."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import tyro

from adapters.peft_method import PeftMethod
from experiments.__main__ import COMMANDS
from experiments.cli.overrides import method_settings
from experiments.cli.parser import parse, parse_command, parse_options
from experiments.cli.tyro_errors import sentence
from experiments.run import RunOptions


@dataclass(frozen=True)
class SampleOptions:
    """Sample images from runs (Rombach et al. 2022). More text."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN [RUN ...]")]
    """Folders of finished runs."""
    output: Path
    """Folder for the images."""
    seed: int = 0
    """Seed of the initial noise,
    on two lines."""


@dataclass(frozen=True)
class TableOptions:
    """Print a table."""

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    """The task's name."""


COMMANDS_HERE = {"sample": SampleOptions, "table": TableOptions}


def test_positionals_required_options_and_defaults():
    options = parse_options(SampleOptions, ["a", "b", "--output", "c"], "sample")
    assert options == SampleOptions((Path("a"), Path("b")), Path("c"))
    assert parse_options(SampleOptions, ["a", "-o", "c", "--seed", "3"], "sample").seed == 3


def test_a_subcommand():
    assert parse_command(COMMANDS_HERE, ["table", "e2e"], "program") == ("table", TableOptions("e2e"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a COMMAND: sample, table"),
        (["sampel"], "unknown command 'sampel' (did you mean 'sample'?)"),
        (["sample", "a"], "missing required arguments: --output PATH; see program sample --help"),
        (["table"], "missing required arguments: TASK"),
        (["table", "e2e", "--by", "kid"], "unknown option '--by'"),
        (["sample", "a", "--output", "b", "--seed", "x"], "--seed must be an integer, not 'x'"),
    ],
)
def test_a_wrong_subcommand_is_one_sentence(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_command(COMMANDS_HERE, arguments, "program")
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert message in error
    assert error.count("\n") == 1


def shown_help(capsys, call, *arguments):
    with pytest.raises(SystemExit) as stopped:
        call(*arguments)
    assert stopped.value.code in (0, None)
    return capsys.readouterr().out


def test_the_help_lists_subcommands(capsys):
    text = shown_help(capsys, parse_command, COMMANDS_HERE, ["--help"], "program", "What it does.")
    assert "What it does." in text
    assert "sample  Sample images from runs\n" in text


def test_the_help_of_an_option_is_one_paragraph(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = shown_help(capsys, parse_command, COMMANDS_HERE, ["sample", "--help"], "program")
    assert "RUN [RUN ...]" in text
    assert "Seed of the initial noise, on two lines." in text


def test_the_help_shows_a_default_once_and_no_empty_one(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    without_task = shown_help(capsys, parse, RunOptions, ["peft", "--help"], "run")
    with_task = shown_help(capsys, parse, RunOptions, ["peft", "e2e", "--help"], "run")
    assert "Steps between checkpoints, from which an interrupted run resumes. (default: 100)" in with_task
    assert "Steps between checkpoints, from which an interrupted run resumes. Default: the base's card" in without_task
    for text in (without_task, with_task):
        assert "--adapter.options JSON" in text
        assert not re.search(r"default: (None|'\{\}')?\)", text)


def test_a_json_option_is_one_word():
    config, _ = parse(RunOptions, ["peft", "e2e", "--adapter.options", '{"r": 8, "nested": {"a": [1]}}'], "run")
    assert config.adapter == PeftMethod(options={"r": 8, "nested": {"a": [1]}})
    assert method_settings(['peft.options={"r": 8}']) == {"peft": {"options": {"r": 8}}}


@pytest.mark.parametrize("value", ["r=8", "[8]"])
def test_a_json_option_that_is_no_object_is_refused(value, capsys):
    with pytest.raises(SystemExit):
        parse(RunOptions, ["peft", "e2e", "--adapter.options", value], "run")
    assert "expected a JSON object such as '{\"r\": 8}', not " + value in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected", "unexpected"),
    [
        ([], ["methods:", "lora", "tasks:", "sd-pokemon", "--overwrite"], ["--train.steps"]),
        (["lora"], ["--adapter.rank", "tasks:", "--train.steps"], ["methods:", "--task.data"]),
        (["lora", "e2e"], ["--adapter.rank", "--task.num-beams", "--train.steps"], ["methods:", "tasks:"]),
    ],
)
def test_the_help_shows_what_is_left_to_choose(words, expected, unexpected, capsys):
    text = shown_help(capsys, parse, RunOptions, [*words, "--help"], "run")
    assert all(word in text for word in expected)
    assert not any(word in text for word in unexpected)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (
            "╭─ Value error ─╮\n│ Error parsing --a: odd. │\n│ ───── │\n│ Argument helptext: │\n╰──╯",
            "--a cannot be read: odd",
        ),
        (
            "\n Value error                 \n ----------- \n  Error parsing --a: odd.   \n ------ \n  help \n",
            "--a cannot be read: odd",
        ),
        ("+- Value error -+\n| Error parsing --a: odd. |\n| ----- |\n| help |\n+--+", "--a cannot be read: odd"),
        ("", "the command line cannot be read"),
    ],
)
def test_a_box_becomes_a_sentence(box, expected):
    assert sentence(box) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_an_error_is_one_sentence_whatever_the_terminal_can_show(encoding):
    command = [sys.executable, "-m", "experiments.run", "lora", "sd-pokemon", "--train.seed", "x"]
    environment = {"PYTHONIOENCODING": encoding, "PATH": ""}
    error = subprocess.run(command, capture_output=True, text=True, env=environment).stderr
    assert error == (
        "error: --train.seed must be an integer, not 'x'; see python -m experiments.run lora sd-pokemon --help\n"
    )


def test_the_package_lists_its_commands_and_runs_them():
    listed = subprocess.run([sys.executable, "-m", "experiments"], capture_output=True, text=True, check=True).stdout
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in listed.splitlines() if line.startswith("  ")}
    assert list(lines) == list(COMMANDS)
    assert all(len(line) > 10 for line in lines.values())
    command = [sys.executable, "-m", "experiments", "run", "--help"]
    assert "tasks:" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
