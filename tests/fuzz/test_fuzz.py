"""A thousand inputs that a user could cause: each is accepted, or refused in one sentence without a traceback.

`python -m pytest -m fuzz`. FUZZ_NEW_INPUTS=1 draws new examples; hypothesis prints the smallest that fails.
"""

from __future__ import annotations

import copy
import io
import json
import math
import shutil
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

import reports.__main__
from adapters.base import attach
from adapters.errors import AdapterError
from adapters.interchange.diffusers_file import DIFFUSERS_FILE
from adapters.interchange.kohya import KOHYA_FILE
from adapters.interchange.peft_folder import PEFT_CONFIG, PEFT_FILE
from adapters.lora import Lora
from experiments.cli.parser import parse, parse_options
from experiments.config import RunConfig
from experiments.errors import UsageError
from experiments.records.adapter_file import write_exports
from experiments.records.folder import fingerprint
from experiments.run import RunOptions
from experiments.training import checkpoint
from experiments.training.optimizer import optimizer_of, schedule_of
from experiments.training.preflight import check_before_loading
from reports.errors import ReportError
from reports.records import collect
from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.data import e2e_data, style_data
from tests.contract import tiny
from tests.fuzz import inputs
from tests.reports.synthetic import record, study, write

pytestmark = [pytest.mark.fuzz, pytest.mark.slow]

LORA = Lora(rank=2)
SETTINGS = {"name": "lora"} | asdict(LORA)


def examples(count: int) -> settings:
    checks: Any = list(HealthCheck)
    return settings(max_examples=count, suppress_health_check=checks)


def assert_one_sentence(error: BaseException) -> None:
    assert str(error).strip()
    assert "\n" not in str(error)


@examples(250)
@given(words=inputs.command_lines())
def test_command_lines(words):
    with redirect_stderr(io.StringIO()) as errors, redirect_stdout(io.StringIO()):
        try:
            config = parse(RunOptions, words, "run")[0].resolved()
            fingerprint(config)
            assert RunConfig.from_record(json.loads(json.dumps(config.as_record()))) == config
        except (UsageError, TaskError, AdapterError) as refusal:
            assert_one_sentence(refusal)
        except SystemExit:
            assert "Traceback" not in errors.getvalue()


def config_of(name: str, words: list[str]) -> RunConfig:
    """The configuration of a run whose method or task is the one that the option belongs to."""
    part, _, chosen = name.partition(".")
    method = chosen if part == "adapter" else "lora"
    task = chosen if part == "task" else "e2e"
    return parse(RunOptions, [method, task, *words], "run")[0]


def assert_finite(value: Any) -> None:
    if isinstance(value, dict):
        for inner in value.values():
            assert_finite(inner)
    elif isinstance(value, float):
        assert math.isfinite(value)


@examples(400)
@given(drawn=inputs.numbers())
def test_numbers(drawn):
    """A number that is accepted is finite, can be recorded, and works on the model's shapes and in the optimizer."""
    name, words = drawn
    with redirect_stderr(io.StringIO()) as errors, redirect_stdout(io.StringIO()):
        try:
            if name in inputs.COMMANDS:
                positional = ["RUN"] if name in ("truncate", "sample", "generate") else []
                parse_options(inputs.COMMANDS[name], [*positional, *words], name)
                return
            config = config_of(name, words).resolved()
            assert_finite(config.as_record())
            assert RunConfig.from_record(json.loads(json.dumps(config.as_record()))) == config
            check_before_loading(config)
            settings = config.for_items(40)
            optimizer = optimizer_of(settings, [torch.nn.Parameter(torch.ones(1))])
            schedule = schedule_of(settings, optimizer)
            optimizer.step()
            schedule.step()
        except (UsageError, TaskError, AdapterError) as refusal:
            assert_one_sentence(refusal)
        except SystemExit:
            assert "Traceback" not in errors.getvalue()


@examples(150)
@given(value=inputs.changed(RunConfig(Lora(), Pokemon()).resolved().as_record()))
def test_configurations_from_records(value):
    try:
        RunConfig.from_record(value).resolved()
    except (UsageError, TaskError, AdapterError) as refusal:
        assert_one_sentence(refusal)


@examples(160)
@given(value=inputs.changed(record()), content=inputs.damaged(json.dumps(record()).encode()))
def test_records(tmp_path_factory, value, content):
    runs = tmp_path_factory.mktemp("runs")
    for name, damaged in (("a", json.dumps(value).encode()), ("b", content)):
        folder = runs / "drawings" / "lora" / name
        folder.mkdir(parents=True)
        (folder / "result.json").write_bytes(damaged)
    collection = collect(runs)
    assert len(collection.finished) + len(collection.failed) + len(collection.unreadable) == 2
    assert all("\n" not in reason for _, reason in collection.unreadable)


@examples(50)
@given(words=st.lists(inputs.VALUE | st.sampled_from(["table", "compare", "plots", "--runs", "--by"]), max_size=5))
def test_report_commands(tmp_path_factory, words):
    write(tmp_path_factory.mktemp("runs"), record())
    with redirect_stderr(io.StringIO()) as errors, redirect_stdout(io.StringIO()), suppress(SystemExit, ReportError):
        reports.__main__.main(words)
    assert "Traceback" not in errors.getvalue()


@examples(30)
@given(value=inputs.changed(record("lora", 8, 0)))
def test_tables_of_unusual_records(tmp_path_factory, value):
    runs = tmp_path_factory.mktemp("runs")
    study(runs)
    folder = runs / "drawings" / "lora" / "odd"
    folder.mkdir(parents=True)
    (folder / "result.json").write_text(json.dumps(value))
    with redirect_stdout(io.StringIO()):
        for format in ("terminal", "md", "csv", "latex"):
            reports.__main__.main(["table", "drawings", "--runs", str(runs), "--format", format])


def attached():
    torch.manual_seed(0)
    return Lora(rank=2).attach(tiny.BUILDERS["gpt2"]())


def training(folder: Path) -> checkpoint.Parts:
    owned = attached().parameters()
    optimizer = torch.optim.AdamW(owned.values())
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    sum(p.sum() for p in owned.values()).backward()  # pyright: ignore[reportAttributeAccessIssue]
    optimizer.step()
    parts = checkpoint.Parts(owned, optimizer, schedule, None)  # pyright: ignore[reportArgumentType]
    checkpoint.save(folder, parts, checkpoint.Progress(1))
    return parts


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> tuple[Path, checkpoint.Parts, bytes]:
    folder = tmp_path_factory.mktemp("checkpoint")
    parts = training(folder)
    return folder, parts, (folder / checkpoint.FILE).read_bytes()


def test_a_checkpoint_with_an_overflowing_generator_state(saved, tmp_path):
    folder, parts, _ = saved
    with safe_open(folder / checkpoint.FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = json.loads(file.metadata()["state"])
    state["numpy"]["state"]["key"][0] = 2**40
    save_file(tensors, tmp_path / checkpoint.FILE, {"state": json.dumps(state)})
    with pytest.raises(UsageError):
        checkpoint.load(tmp_path, parts)


@examples(120)
@given(choice=st.data())
def test_checkpoints(saved, choice):
    folder, parts, whole = saved
    (folder / checkpoint.FILE).write_bytes(choice.draw(inputs.damaged(whole)))
    try:
        checkpoint.load(folder, parts)
    except UsageError as refusal:
        assert_one_sentence(refusal)


@examples(80)
@given(content=st.binary(max_size=300) | inputs.damaged(b'mr,ref\n"name[a], food[b]",A text.\n"name[c]",Other.\n'))
def test_csv_files_of_meanings(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("data") / "rows.csv"
    file.write_bytes(content)
    for policy in ("fail", "skip"):
        try:
            e2e_data.load(str(file), 5, 5, policy)
        except TaskError as refusal:
            assert_one_sentence(refusal)


@examples(70)
@given(content=st.binary(max_size=3000), name=inputs.VALUE)
def test_texts(tmp_path_factory, content, name):
    file = tmp_path_factory.mktemp("data") / "text.txt"
    file.write_bytes(content)
    for source in (str(file), name):
        try:
            style_data.load(source, 5)
        except TaskError as refusal:
            assert_one_sentence(refusal)


def picture(format: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.arange(3 * 64, dtype=np.uint8).reshape(8, 8, 3)).save(content, format)
    return content.getvalue()


LINES = "\n".join(json.dumps({"file_name": f"{i}.png", "text": f"thing {i}"}) for i in range(6)).encode()


@examples(20)
@given(content=inputs.damaged(picture("png")) | inputs.damaged(picture("gif")), lines=inputs.damaged(LINES))
def test_picture_folders(tmp_path_factory, content, lines):
    for damaged_picture, metadata in ((content, LINES), (picture("png"), lines)):
        folder = tmp_path_factory.mktemp("pictures")
        for i in range(6):
            (folder / f"{i}.png").write_bytes(damaged_picture if i == 3 else picture("png"))
        (folder / "metadata.jsonl").write_bytes(metadata)
        try:
            Pokemon(data=str(folder), test_items=5, on_bad_item="skip").filled().splits(8)
        except TaskError as refusal:
            assert_one_sentence(refusal)


@examples(150)
@given(content=inputs.pictures(), policy=st.sampled_from(["fail", "skip"]))
def test_pictures_of_every_mode(tmp_path_factory, content, policy):
    folder = tmp_path_factory.mktemp("pictures")
    for i in range(6):
        (folder / f"{i}.png").write_bytes(content if i == 3 else picture("png"))
    (folder / "metadata.jsonl").write_bytes(LINES)
    try:
        splits = Pokemon(data=str(folder), test_items=2, on_bad_item=policy).filled().splits(8)
    except TaskError as refusal:
        assert_one_sentence(refusal)
    else:
        assert splits.train.pixels.shape[1:] == (3, 8, 8)
        assert splits.train.pixels.dtype == torch.uint8


# kind of model, format (None: adapter.safetensors), and the files that may be damaged
FORMATS = [
    ("unet", None, ["adapter.safetensors"]),
    ("unet", "diffusers", [DIFFUSERS_FILE]),
    ("unet", "kohya", [KOHYA_FILE]),
    ("gpt2", "peft", [PEFT_FILE, PEFT_CONFIG]),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[Path]:
    """A folder per format with a LoRA in it."""
    folders = []
    for kind, form, _ in FORMATS:
        folder = tmp_path_factory.mktemp(str(form))
        torch.manual_seed(0)
        attachment = LORA.attach(copy.deepcopy(tiny.built(kind)))
        if form is None:
            save_file(attachment.state(), folder / "adapter.safetensors", {"adapter": json.dumps(SETTINGS)})
        else:
            write_exports(attachment.export(form), folder)
        folders.append(folder)
    return folders


@examples(70)
@given(choice=st.data())
def test_adapter_files(written, tmp_path_factory, choice):
    number = choice.draw(st.integers(0, len(FORMATS) - 1))
    kind, _, names = FORMATS[number]
    folder = tmp_path_factory.mktemp("adapter")
    shutil.copytree(written[number], folder, dirs_exist_ok=True)
    file = folder / choice.draw(st.sampled_from(names))
    if file.suffix == ".json":
        value = choice.draw(inputs.changed(json.loads(file.read_text())))
        file.write_text(json.dumps(value))
    else:
        file.write_bytes(choice.draw(inputs.damaged(file.read_bytes())))
    try:
        attach(replace(LORA, init=str(folder)), copy.deepcopy(tiny.built(kind)))
    except AdapterError as refusal:
        assert_one_sentence(refusal)
