"""What people type first is accepted, or refused in one sentence that names the right option."""

import importlib
import shlex
import sys
from pathlib import Path
from typing import ClassVar

import pytest

from experiments.cli.parser import parse, parse_options, parse_task
from experiments.config import unknown_name
from experiments.run import RunOptions
from experiments.sweep import SweepOptions
from reports.commands.plots import PlotsOptions


def parsed(line):
    config, options = parse(RunOptions, shlex.split(line), "run")
    return {"adapter": config.adapter, "task": config.task, "train": config.train, "options": options}


@pytest.mark.parametrize(
    ("words", "setting", "value"),
    [
        ("--rank 8", "adapter.rank", 8),
        ("-r 8", "adapter.rank", 8),
        ("--rank=8", "adapter.rank", 8),
        ("--lora_alpha 3", "adapter.alpha", 3.0),
        ("--target_modules query", "adapter.targets", ("query",)),
        ("--lr 1e-3", "train.learning_rate", 1e-3),
        ("--train.lr 1e-3", "train.learning_rate", 1e-3),
        ("--batch-size 4", "train.batch_size", 4),
        ("--train_batch_size 4", "train.batch_size", 4),
        ("--steps 5", "train.steps", 5),
        ("--max_train_steps 5", "train.steps", 5),
        ("--num_train_epochs 2", "train.epochs", 2),
        ("--seed 3", "train.seed", 3),
        ("--gradient_accumulation_steps 2", "train.gradient_accumulation_steps", 2),
        ("--mixed_precision bf16", "train.mixed_precision", "bf16"),
        ("--lr_warmup_steps 4", "train.warmup_steps", 4),
        ("--gradient-checkpointing", "train.gradient_checkpointing", True),
        ("--no-gradient-checkpointing", "train.gradient_checkpointing", False),
        ("--resolution 64", "task.resolution", 64),
        ("--pretrained_model_name_or_path folder", "task.base", "folder"),
        ("--train_data_dir folder", "task.data", "folder"),
        ("--guidance-scale 3", "task.guidance_scale", 3.0),
        ("--seed 1 --train.seed 2", "train.seed", 2),
    ],
)
def test_names_of_other_tools_are_accepted(words, setting, value):
    part, name = setting.split(".")
    assert getattr(parsed(f"lora sd-pokemon {words}")[part], name) == value


@pytest.mark.parametrize("option", ["--output", "--output-dir", "--output_dir", "-o", "--runs"])
def test_output_is_the_folder_of_runs(option):
    assert str(parsed(f"lora sd-pokemon {option} folder")["options"].runs) == "folder"


@pytest.mark.parametrize("option", ["--output", "--output-dir", "--output_dir", "-o"])
def test_output_is_the_commands_own_option_if_it_has_one(option):
    """`python -m reports plots --output DIR` writes there, it does not read runs there."""
    assert parse_options(PlotsOptions, [option, "folder"], "plots") == PlotsOptions(output=Path("folder"))


@pytest.mark.parametrize("option", ["--task.metrics", "--metrics", "--task.extra-metrics"])
def test_metrics_of_the_evaluate_library_are_the_extra_ones(option):
    assert parsed(f"lora e2e {option} chrf ./my_metric")["task"].extra_metrics == ("chrf", "./my_metric")


def test_a_settings_former_name_is_accepted_as_the_name_of_another_setting():
    assert parsed("prefix style --length 8")["adapter"].length == 8


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("sample RUN PROMPT --n 4", "--num-images-per-prompt"),
        ("sample RUN PROMPT --steps 20", "--num-inference-steps"),
        ("sample RUN PROMPT --guidance=3", "--guidance-scale"),
        ("sample RUN PROMPT --out grid.png", "--output"),
        ("generate RUN PROMPT --beams 4", "--num-beams"),
        ("generate RUN PROMPT --no-repeat-ngram 3", "--no-repeat-ngram-size"),
        ("generate RUN PROMPT --new_tokens 20", "--max-new-tokens"),
        ("intrinsic e2e --beside lora", "--other-methods"),
        ("intrinsic e2e --beside-largest 8", "--other-largest"),
        ("plan lora e2e --precision bf16", "--train.mixed-precision"),
        ("plan lora e2e --out plan.svg", "--output"),
        ("export RUN --out folder", "--output"),
        ("run lora e2e --again", "--overwrite"),
        ("truncate RUN --again", "--overwrite"),
    ],
)
def test_a_former_name_of_a_commands_option_is_refused_with_the_new_one(line, new, monkeypatch, capsys):
    name, *words = line.split()
    monkeypatch.setattr(sys, "argv", [name, *words])
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(f"experiments.{name}").main()
    assert stopped.value.code == 2
    assert f" is called {new} now\n" in capsys.readouterr().err


def test_a_name_can_have_its_own_hint():
    class Method:
        other_names = ("other",)
        name_hints: ClassVar = {"dora": "use: method TASK --adapter.use-dora"}

    registry = {"method": Method}
    assert "unknown method 'DoRA' (use: method TASK --adapter.use-dora); " in unknown_name(registry, "DoRA", "method")
    assert "unknown method 'other' (it is called 'method' here); " in unknown_name(registry, "other", "method")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("LoRA sd-pokemon", "did you mean 'lora'"),
        ("fft e2e", "'full'"),
        ("adapter e2e", "'bottleneck'"),
        ("lora pokemon", "'sd-pokemon'"),
        ("lora", "expected METHOD TASK first"),
        ("lora --rank 3 e2e", "expected METHOD TASK first"),
        ("lora sd-pokemon --adapter.rank 4 8 16", "python -m experiments.sweep sd-pokemon --methods lora --sizes"),
        ("lora sd-pokemon --rank 4 8", "--sizes"),
        ("lora sd-pokemon --adapter.dora", "use the method `dora`"),
        ("lora sd-pokemon --dora", "use the method `dora`"),
        ("lora sd-pokemon --train.batch 3", "--train.batch is called --train.batch-size now"),
        ("lora sd-pokemon --batch 3", "--batch is called --train.batch-size now"),
        ("lora sd-pokemon --train.warm_up=3", "called --train.warmup-steps now"),
        ("lora sd-pokemon --train.precision fp32", "called --train.mixed-precision now"),
        ("lora sd-pokemon --train.mixed-precision fp32", "called --train.mixed-precision no now"),
        ("lora sd-pokemon --adapter.rank_stabilised", "called --adapter.use-rslora now"),
        ("lora sd-pokemon --task.guidance 3", "called --task.guidance-scale now"),
        ("lora sd-pokemon --task.base-items 3", "called --task.drift-items now"),
        ("lora sd-dreambooth --task.instance-data x", "called --task.data now"),
        ("lora e2e --task.beams 3", "called --task.num-beams now"),
        ("lora sd-pokemon --again", "--again is called --overwrite now"),
        ("lora sd-pokemon --fp16", "--train.mixed-precision fp16"),
        ("lora sd-pokemon --use_ema", "--train.ema-decay"),
        ("lora sd-pokemon --resume_from_checkpoint latest", "resumes"),
        ("lora sd-pokemon --adapter.rnak 8", "did you mean '--adapter.rank'"),
        ("lora sd-pokemon --rnus 8", "did you mean '--runs'"),
        ("lora planted --rank 8", "option '--rank' is ambiguous here: use --adapter.rank or --task.rank"),
        ("lora planted -r 8", "option '-r' is ambiguous here: use --adapter.rank or --task.rank"),
        ("lora sd-pokemon --train.steps x", "--train.steps must be an integer, not 'x'"),
        ("lora sd-pokemon --train.seed x", "--train.seed must be an integer, not 'x'"),
        ("lora sd-pokemon --train.steps", "--train.steps needs a value"),
        ("lora sd-pokemon --train.device tpu", "--train.device must be one of 'auto', 'cpu', 'cuda', not 'tpu'"),
        ("lora sd-pokemon --target-modules query --target-modules value", "--adapter.targets is given twice"),
        ("lora sd-pokemon seven", "unexpected word 'seven'"),
        ("lora e2e --task.evaluation-seeds 5", "nothing in this evaluation is random"),
        ("lora style --evaluation-seeds 5", "nothing in this evaluation is random"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_that_helps(line, hint, capsys):
    with pytest.raises(SystemExit) as stopped:
        parsed(line)
    message = capsys.readouterr().err
    assert stopped.value.code == 2
    assert hint in message
    assert message.count("\n") == 1
    assert not set(message) & set("│╭╰─")


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ("--rank 1 4", {"sizes": (1, 4)}),
        ("--method lora", {"methods": ("lora",)}),
        ("--sizes 1 4 --output folder", {"sizes": (1, 4)}),
    ],
)
def test_a_sweep_takes_the_names_of_a_run(words, options):
    _, swept = parse_task(SweepOptions, ["sd-pokemon", *words.split()], "sweep")
    assert {name: getattr(swept, name) for name in options} == options


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("sd-pokemon --train.batch 3", "called --train.batch-size now"),
        ("sd-pokemon --adapter.alpha 3", "--set METHOD.alpha=VALUE"),
        ("sd-pokemon --sizes x", "--sizes does not accept 'x'"),
        ("SD-Pokemon", "did you mean 'sd-pokemon'"),
    ],
)
def test_a_wrong_sweep_is_one_sentence_that_helps(line, hint, capsys):
    with pytest.raises(SystemExit):
        parse_task(SweepOptions, line.split(), "sweep")
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1
