"""`python -m tasks check`: what it says of good and of broken data, without a model."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import tasks.__main__ as program
from experiments.cli.errors import command
from tasks.bundled.bundled_bases import FOLDERS, LANGUAGE_MODEL
from tasks.diffusion.model import stable_diffusion
from tasks.diffusion.worlds.drawing import SIZE
from tasks.language.model import bases
from tasks.pretrained import hub
from tasks.pretrained.hub import Snapshot
from tests.tasks.diffusion.data.test_data import write_folder


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    for module in (stable_diffusion, bases):
        monkeypatch.setattr(module, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.fixture
def check(monkeypatch, capsys):
    """Runs the command; returns its exit status and what it printed."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["tasks", "check", *words])
        try:
            command(program.main)
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        printed = capsys.readouterr()
        return status, printed.out + (printed.err if status == 2 else "")

    return run


def add(folder, name, picture, text, **options):
    picture.save(folder / name, **options)
    with (folder / "metadata.jsonl").open("a") as lines:
        lines.write("\n" + json.dumps({"file_name": name, "text": text}))


def test_a_good_folder(check, tmp_path):
    grid = tmp_path / "grid.png"
    status, printed = check("sd-pokemon", "--task.data", str(write_folder(tmp_path / "p", 20)), "--output", str(grid))
    assert status == 0
    for words in (
        "14 for training, 2 for the validation loss, 4 for the test, 0 for the floor, "
        f"at {SIZE} x {SIZE} pixels",  # those of the bundled base
        "duplicates                0 groups of the same or nearly the same pictures, each in one split",
        "left out                  nothing",
        "50 pixels wide, 40 high",
        "RGB: 20",
        "the limit is 32, none is longer",
        "in training and held out  0 captions",
    ):
        assert words in printed
    assert Image.open(grid).width > 8 * 128


def test_no_grid_is_written_unless_asked(check, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "p", 20)
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    status, printed = check("sd-pokemon", "--task.data", ".")
    assert status == 0
    assert "grid: none; --output FILE.png writes one" in printed
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("p/check.png", "is in the folder of the data, where it would count as one of its pictures"),
        ("p/../p/sub/check.png", "is in the folder of the data"),
        ("p/0.png/check.png", "is in the folder of the data"),
        ("check.txt", "is not the name of a picture: expected a name that ends with .bmp"),
        ("file/check.png", "cannot be written"),
    ],
)
def test_a_grid_that_cannot_be_written_is_one_sentence(output, message, check, tmp_path, monkeypatch):
    folder = write_folder(tmp_path / "p", 10)
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.chdir(tmp_path)
    before = sorted(folder.rglob("*"))
    status, printed = check("sd-pokemon", "--task.data", "p", "--output", output)
    assert status == 2
    (error,) = [line for line in printed.splitlines() if line.startswith("error:")]
    assert message in error
    assert sorted(folder.rglob("*")) == before


def test_a_folder_with_every_fault(check, tmp_path):
    folder = write_folder(tmp_path / "p", 20)
    exif = Image.Exif()
    exif[0x0112] = 6
    add(folder, "clear.png", Image.new("RGBA", (64, 64), (255, 0, 0, 0)), "a clear thing")
    add(folder, "ramp.png", Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64)), "a ramp")
    add(folder, "turned.jpg", Image.new("RGB", (64, 32)), "a turned thing", exif=exif)
    add(folder, "bomb.png", Image.new("1", (20000, 10000)), "a bomb")
    add(folder, "small.png", Image.new("RGB", (16, 40)), "a small thing " * 30)
    add(folder, "copy.png", Image.open(folder / "0.png"), "a copy")
    Image.new("RGB", (64, 64)).save(folder / "unlisted.png")
    words = ("sd-pokemon", "--task.data", str(folder), "--task.resolution", "32")
    status, printed = check(*words)
    assert status == 1
    for line in (
        "pictures with too many pixels: 1 (bomb.png)",
        "pictures without a line in metadata.jsonl: 1 (unlisted.png)",
        "enlarged, because the shorter side is below 32: 1",
        "transparency on white: 1",
        "16 bits scaled to 8: 1",
        "turned as EXIF says: 1",
        "1 longer: cut there (small.png)",
        "2 groups of the same or nearly the same pictures (0.png = copy.png, turned.jpg = small.png)",
        "fault: a run stops at pictures with too many pixels; --task.on-bad-item skip leaves them out",
    ):
        assert line in printed, line
    assert check(*words, "--task.on-bad-item", "skip")[0] == 0


def test_modes_are_those_of_the_pictures_that_are_used(check, tmp_path):
    folder = write_folder(tmp_path / "p", 20)
    add(folder, "grey.png", Image.new("L", (64, 64)), "")
    printed = check("sd-pokemon", "--task.data", str(folder), "--task.on-bad-item", "skip")[1]
    assert "pictures with an empty caption: 1 (grey.png)" in printed
    assert "RGB: 20\n" in printed


def test_a_subjects_folder(check, tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    words = ("--task.instance-prompt", "a picture of sks dog", "--task.prior-preservation", "False")
    status, printed = check("sd-dreambooth", "--task.data", str(folder), *words)
    assert status == 0
    assert "7 for training, 1 for the validation loss, 2 for the test" in printed


def write_meanings(file, count=12, slot="food[Thai]"):
    rows = [f'"name[Place {i}], {slot}";Eat at Place {i}.' for i in range(count)]
    file.write_text("\n".join(["mr;ref", *rows]) + "\n")
    return str(file)


def test_meanings_in_a_table_with_semicolons(check, tmp_path):
    status, printed = check("e2e", "--task.data", write_meanings(tmp_path / "rows.csv", slot="weather[wet]"))
    assert status == 0
    assert "train 10 with 10 texts, validation 1 with 1 text, test 1 with 1 text" in printed
    assert "not measured: weather" in printed
    assert "none is longer" in printed


@pytest.mark.parametrize("base", ["gpt2", "someone/their-model"])
def test_a_base_of_the_hub_is_checked_without_its_weights(base, check, tmp_path, monkeypatch):
    requested = []

    def fetch(option, name, sources, files, kind):
        requested.extend(files)
        return Snapshot(FOLDERS[LANGUAGE_MODEL], name, "commit")

    monkeypatch.setattr(hub, "fetch", fetch)
    printed = check("e2e", "--task.base", base, "--task.data", write_meanings(tmp_path / "rows.csv"))[1]
    assert f"the limit is {1024 if base == 'gpt2' else 256}, none is longer" in printed
    assert requested
    assert not any("safetensors" in file or file.endswith(".bin") for file in requested)


def test_rows_that_are_left_out(check, tmp_path):
    file = write_meanings(tmp_path / "rows.csv")
    with open(file, "a") as rows:
        rows.write("no meaning;A text.\n")
        rows.write(f'"name[Other]";{"long " * 400}\n')
    status, printed = check("e2e", "--task.data", file)
    assert status == 1
    assert "unreadable meanings: 1 (line 14: 'no meaning')" in printed
    assert "1 longer: left out (name[Other])" in printed


def test_meanings_that_are_all_too_long_stop_a_run(check, tmp_path):
    file = write_meanings(tmp_path / "rows.csv", slot=f"food[{'very long ' * 300}]")
    status, printed = check("e2e", "--task.data", file)
    assert status == 1
    assert "training pairs longer than the base's positions: 10 (" in printed
    assert "test meanings longer than the base's positions: 1 (" in printed
    assert "fault: no meaning of train fits the 256 positions" in printed


def test_a_text(check, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"line {i} of a text about {i * i} sheep\n" for i in range(1400)))
    status, printed = check("style", "--task.data", str(file), "--task.max-length", "64")
    assert status == 0
    assert "rows of at most 64; the model reads 256" in printed
    assert "0 groups of the same parts, each in one split" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected TASK first"),
        (["sd-pokemn"], "unknown task 'sd-pokemn' (did you mean 'sd-pokemon'?)"),
        (["sd-pokemon", "--task.crops", "0"], "--task.crops must be at least 1"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, check):
    status, printed = check(*words)
    assert status == 2
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1
