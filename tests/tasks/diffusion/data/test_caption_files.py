"""Captions as people write them: every form gives the same pictures and captions."""

import csv
import json

import pytest

from tasks.errors import TaskError
from tests.tasks.diffusion.data.test_data import read, write_folder

CAPTIONS = {f"{i}.png": f'a thing; {i}, "quoted"' for i in range(10)}


@pytest.fixture
def folder(tmp_path):
    """Ten pictures without captions."""
    folder = write_folder(tmp_path / "p", 10)
    (folder / "metadata.jsonl").unlink()
    return folder


def write_csv(folder, name, header, delimiter=","):
    with (folder / name).open("w", newline="", encoding="utf-8-sig") as content:
        writer = csv.writer(content, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(CAPTIONS.items())


def write_lines(folder):
    rows = [json.dumps({"file_name": name, "text": text}) for name, text in CAPTIONS.items()]
    (folder / "metadata.jsonl").write_text("\n".join(rows) + "\n\n")


def write_array(folder):
    rows = [{"file_name": name, "text": text} for name, text in CAPTIONS.items()]
    (folder / "metadata.json").write_text(json.dumps(rows, indent=1))


def write_texts(folder):
    for name, text in CAPTIONS.items():
        (folder / name).with_suffix(".txt").write_text(f"{text}\n")


FORMS = {
    "jsonl": write_lines,
    "array": write_array,
    "kohya": write_texts,
    "metadata.csv": lambda folder: write_csv(folder, "metadata.csv", ["file_name", "text"]),
    "captions.csv": lambda folder: write_csv(folder, "captions.csv", ["filename", "caption"]),
    "semicolons": lambda folder: write_csv(folder, "metadata.csv", ["file_name", "text"], ";"),
    "tabs": lambda folder: write_csv(folder, "captions.csv", ["file", "prompt"], "\t"),
}


def captions_of(sets):
    return dict(zip(sets.train.names + sets.test.names, sets.train.captions + sets.test.captions, strict=True))


@pytest.mark.parametrize("write", FORMS.values(), ids=FORMS)
def test_every_form_is_read(folder, write):
    write(folder)
    assert captions_of(read(folder)) == CAPTIONS


def test_the_message_names_every_form(folder):
    with pytest.raises(TaskError) as refusal:
        read(folder)
    for form in ("metadata.jsonl", "metadata.csv", "captions.csv", "filename,caption", "cat.txt beside cat.png"):
        assert form in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_table_without_file_names_says_what_it_has(folder):
    write_csv(folder, "metadata.csv", ["picture", "text"])
    with pytest.raises(TaskError, match="has the columns picture, text, none of which names the pictures"):
        read(folder)


def test_rows_come_in_the_order_of_the_datasets_library(tmp_path):
    from datasets import load_dataset

    folder = write_folder(tmp_path / "p", 12)
    theirs = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    sets = read(folder)
    ours = [caption for _, caption in sorted(zip(positions(12), sets.train.captions + sets.test.captions, strict=True))]
    assert ours == list(theirs["text"])


def positions(count):
    """Of the training and the test pictures, in that order: every fifth is held out."""
    held_out = list(range(0, count, 5))
    return [i for i in range(count) if i not in held_out] + held_out


@pytest.mark.parametrize("name", ["train.png", "test.png", "validation.png"])
def test_no_file_name_means_a_split(folder, name):
    (folder / "3.png").rename(folder / name)
    rows = [json.dumps({"file_name": name if k == "3.png" else k, "text": text}) for k, text in CAPTIONS.items()]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    assert len(captions_of(read(folder))) == 10


def test_pictures_without_a_line_are_counted_and_said(tmp_path):
    folder = write_folder(tmp_path / "p", 12)
    lines = (folder / "metadata.jsonl").read_text().splitlines()
    (folder / "metadata.jsonl").write_text("\n".join(lines[:4] + lines[5:]))
    sets = read(folder)
    kind = "pictures without a line in metadata.jsonl"
    assert len(sets.train) + len(sets.test) == 11
    assert sets.facts["left_out"] == {kind: 1}
    assert sets.facts["left_out_items"] == {kind: ["4.png"]}


def test_a_line_without_a_picture_is_a_bad_item(tmp_path):
    folder = write_folder(tmp_path / "p", 12)
    (folder / "4.png").unlink()
    with pytest.raises(TaskError, match=r"'4\.png'.*there is no such file.*--task\.on-bad-item skip"):
        read(folder)
    assert read(folder, on_bad_item="skip").facts["left_out"] == {"missing pictures": 1}


def test_a_picture_outside_of_the_folder_is_refused(folder):
    (folder / "metadata.jsonl").write_text(json.dumps({"file_name": "../../secret.png", "text": "x"}))
    with pytest.raises(TaskError, match=r"\.\./\.\./secret\.png', which is outside of it"):
        read(folder)


def test_names_of_windows_and_subfolders(folder):
    (folder / "set").mkdir()
    for i in range(10):
        (folder / f"{i}.png").rename(folder / "set" / f"{i}.png")
    rows = [json.dumps({"file_name": f"set\\{name}", "text": text}) for name, text in CAPTIONS.items()]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    assert captions_of(read(folder)) == {f"set/{name}": text for name, text in CAPTIONS.items()}
