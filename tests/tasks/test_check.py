"""`python -m tasks check`: what it says of good and of broken data, without a model."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

import tasks.__main__ as program
from tasks.pretrained import loading
from tests.tasks.diffusion.data.test_data import write_folder


@pytest.fixture(autouse=True)
def _no_model(monkeypatch):
    monkeypatch.setattr(loading, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))


@pytest.fixture
def check(monkeypatch, tmp_path, capsys):
    """Runs the command; returns its exit status and what it printed, and keeps the grid in tmp_path."""

    def run(*words):
        output = [] if "--output" in words else ["--output", str(tmp_path / "grid.png")]
        monkeypatch.setattr(sys, "argv", ["tasks", "check", *words, *output])
        try:
            program.main()
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
    status, printed = check("sd-pokemon", "--task.data", str(write_folder(tmp_path / "p", 20)))
    assert status == 0
    for words in (
        "16 for training, 4 for the validation loss, 4 for the test, at 32 x 32",
        "left out                  nothing",
        "50 to 50 pixels wide, 40 to 40 high",
        "RGB: 20",
        "the limit is 32, none is longer",
        "0 pictures; 0 captions",
    ):
        assert words in printed
    assert Image.open(tmp_path / "grid.png").width > 8 * 128


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
    status, printed = check("sd-pokemon", "--task.data", str(folder))
    assert status == 1
    for words in (
        "pictures with too many pixels: 1 (bomb.png)",
        "pictures without a line in metadata.jsonl: 1 (unlisted.png)",
        "1 have a shorter side below 32 and are enlarged",
        "transparency on white: 1",
        "16 bits scaled to 8: 1",
        "turned as EXIF says: 1",
        "1 are longer and are cut there (small.png)",
        "in training and held out  1 pictures (0.png = copy.png)",
        "fault: a run stops at pictures with too many pixels; --task.on-bad-item skip leaves them out",
    ):
        assert words in printed, words
    assert check("sd-pokemon", "--task.data", str(folder), "--task.on-bad-item", "skip")[0] == 0


def test_a_subjects_folder(check, tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    words = ("--task.instance-prompt", "a picture of sks dog", "--task.prior-preservation", "False")
    status, printed = check("sd-dreambooth", "--task.data", str(folder), *words)
    assert status == 0
    assert "8 for training, 2 for the validation loss, 2 for the test" in printed


def write_meanings(file, count=12, slot="food[Thai]"):
    rows = [f'"name[Place {i}], {slot}";Eat at Place {i}.' for i in range(count)]
    file.write_text("\n".join(["mr;ref", *rows]) + "\n")
    return str(file)


def test_meanings_in_a_table_with_semicolons(check, tmp_path):
    status, printed = check("e2e", "--task.data", write_meanings(tmp_path / "rows.csv", slot="weather[wet]"))
    assert status == 0
    assert "train 10 with 10 texts, validation 1 with 1 texts, test 1 with 1 texts" in printed
    assert "not measured: weather" in printed
    assert "none is longer" in printed


def test_rows_that_are_left_out(check, tmp_path):
    file = write_meanings(tmp_path / "rows.csv")
    with open(file, "a") as rows:
        rows.write("no meaning;A text.\n")
        rows.write(f'"name[Other]";{"long " * 400}\n')
    status, printed = check("e2e", "--task.data", file)
    assert status == 1
    assert "unreadable meanings: 1 (no meaning)" in printed
    assert "1 are longer and are left out (name[Other])" in printed


def test_a_text(check, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("".join(f"line {i} of a text about {i * i} sheep\n" for i in range(1400)))
    status, printed = check("style", "--task.data", str(file), "--task.max-length", "64")
    assert status == 0
    assert "rows of at most 64; the model reads 256" in printed
    assert "0 parts" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected TASK first"),
        (["sd-pokemn"], "unknown task 'sd-pokemn' (did you mean 'sd-pokemon'?)"),
        (["sd-pokemon", "--task.crops", "0"], "--task.crops must be at least 1"),
    ],
)
def test_wrong_input_is_one_sentence(words, message, check):
    from tasks.errors import TaskError

    try:
        status, printed = check(*words)
    except TaskError as refusal:
        status, printed = 2, f"error: {refusal}\n"
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
