"""Two processes launched by torchrun against one with the same global batch size; and what they refuse."""

import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from adapters.lora import Lora
from experiments.config import RunConfig, Train
from experiments.errors import UsageError
from experiments.records.folder import RunFolder
from experiments.session import execute
from tasks.bundled import text
from tasks.language.style import Style
from tests.experiments.torchrun import ROOT, launched, torchrun


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Style:
    """A tiny GPT-2 without dropout, and a text whose rows differ in length."""
    from transformers import GPT2Config, GPT2LMHeadModel

    folder = tmp_path_factory.mktemp("tiny-gpt2")
    tokenizer = text.train_tokenizer(islice(text.drawn_documents(0, 40), 40), 400, 64)
    dropouts: dict[str, Any] = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    tokens: dict[str, Any] = {"vocab_size": len(tokenizer), "bos_token_id": 0, "eos_token_id": 0}
    config = GPT2Config(n_positions=64, n_embd=32, n_layer=2, n_head=2, **dropouts, **tokens)
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "text.txt").write_text("".join(f"line {i} of {i * i} sheep and {i % 7} goats\n" for i in range(1400)))
    return Style(base=str(folder), data=str(folder / "text.txt"), max_length=48, test_items=20, drift_items=3)


def test_two_processes_equal_one_with_the_same_global_batch(task, tmp_path):
    settings = {"learning_rate": 0.01, "validation_steps": 2, "device": "cpu", "evaluate_every": 2}
    config = RunConfig(Lora(rank=2), task, Train(steps=4, batch_size=6, **settings)).resolved()
    alone = RunFolder.of(tmp_path / "one", config)
    expected = execute(config, alone)
    options = ["--train.learning-rate", "0.01", "--train.validation-steps", "2", "--train.device", "cpu"]
    options += ["--train.evaluate-every", "2"]
    options += ["--train.steps", "4", "--train.batch-size", "3", "--adapter.rank", "2", "--runs", str(tmp_path / "two")]
    options += ["--task.base", task.base, "--task.data", task.data, "--task.max-length", "48"]
    options += ["--task.test-items", "20", "--task.drift-items", "3"]
    torchrun("-m", "experiments.run", "lora", "style", *options)
    (folder,) = (tmp_path / "two" / "style" / "lora").iterdir()
    record = json.loads((folder / "result.json").read_text())
    assert record["config"]["train"]["num_processes"] == 2
    assert losses(folder) == pytest.approx(losses(alone.path), rel=1e-4)
    assert points(folder) == pytest.approx(points(alone.path), rel=1e-4)
    assert record["metrics"].keys() == expected["metrics"].keys()
    for name, figure in expected["metrics"].items():
        numbers = {part: number for part, number in figure.items() if isinstance(number, float)}
        same = {part: record["metrics"][name][part] for part in numbers}
        assert same == pytest.approx(numbers, rel=1e-4, abs=1e-5), name
    leftovers = [file.name for file in folder.iterdir() if "writing" in file.name or file.name == "checkpoint"]
    assert not leftovers


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_ends_every_process(task, tmp_path):
    """Without its own error, the second process would wait for the first one until torchrun kills it."""
    (tmp_path / "file").write_text("")
    program = (
        "from experiments.run import main; from tasks import distributed\n"
        "try: main()\n"
        f"except ValueError as error: open(f'{tmp_path}/{{distributed.rank()}}', 'w').write(str(error))\n"
        "distributed.leave()"
    )
    script = tmp_path / "program.py"
    script.write_text(program)
    options = ["--train.steps", "1", "--train.device", "cpu", "--runs", str(tmp_path / "file" / "runs")]
    options += ["--task.base", task.base, "--task.data", task.data, "--task.max-length", "48"]
    done = launched(str(script), "lora", "style", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    for rank in ("0", "1"):
        assert "cannot be written (Not a directory): choose another folder with --runs" in (tmp_path / rank).read_text()


def points(folder: Path) -> list[float]:
    """Steps and perplexities of the quality curve."""
    lines = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    return [number for line in lines for number in (line["step"], line["metrics"]["perplexity"]["value"])]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "steps.jsonl").read_text().splitlines()]
    return [line[name] for line in lines for name in ("loss", "gradient_norm", "validation_loss") if name in line]


def test_processes_that_join_no_common_group_are_refused():
    """`accelerate launch --cpu` without MPI runs each process alone, silently."""
    program = (
        "from accelerate import PartialState; PartialState(); from tasks import distributed; distributed.join(True)"
    )
    environment = os.environ | {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "-1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, env=environment)
    assert "2 processes were launched but only 1 joined" in done.stderr


def test_more_processes_than_were_launched_are_refused(task):
    with pytest.raises(UsageError, match="torchrun --nproc_per_node 3"):
        RunConfig(Lora(), task, Train(num_processes=3)).resolved()
