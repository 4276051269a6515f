"""Captions as people write them: every form gives the same pictures and captions."""

import csv
import json
from pathlib import Path

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
    parts = (sets.train, sets.validation, sets.test, sets.floor)
    return {name: caption for part in parts for name, caption in zip(part.names, part.captions, strict=True)}


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
    texts = list(theirs["text"])
    assert sorted(captions_of(sets).values()) == sorted(texts)
    for part in (sets.train, sets.test):
        assert part.captions == sorted(part.captions, key=texts.index)


@pytest.fixture
def split_folder(folder):
    """Seven pictures in train/ and three in test/, without captions."""
    for split, numbers in (("train", range(7)), ("test", range(7, 10))):
        (folder / split).mkdir()
        for i in numbers:
            (folder / f"{i}.png").rename(folder / split / f"{i}.png")
    return folder


def write_root_table(folder):
    names = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*.png"))]
    rows = [json.dumps({"file_name": name, "text": CAPTIONS[name.split("/")[1]]}) for name in names]
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def write_a_table_per_split(folder):
    for split, column in (("train", "text"), ("test", "other")):
        rows = [json.dumps({"file_name": f.name, column: CAPTIONS[f.name]}) for f in (folder / split).glob("*.png")]
        (folder / split / "metadata.jsonl").write_text("\n".join(rows))


def write_texts_everywhere(folder):
    for file in folder.rglob("*.png"):
        file.with_suffix(".txt").write_text(CAPTIONS[file.name])


@pytest.mark.parametrize("write", [write_root_table, write_a_table_per_split, write_texts_everywhere])
def test_only_the_training_split_is_used(split_folder, write):
    write(split_folder)
    sets = read(split_folder)
    assert captions_of(sets) == {f"train/{i}.png": CAPTIONS[f"{i}.png"] for i in range(7)}
    assert sets.facts["left_out"] == {"pictures of other splits": 3}
    assert "test/8.png" in sets.facts["left_out_items"]["pictures of other splits"]


def test_the_training_split_is_that_of_the_datasets_library(split_folder, tmp_path):
    from datasets import Image, load_dataset

    write_root_table(split_folder)
    theirs = load_dataset("imagefolder", data_dir=str(split_folder), split="train", cache_dir=str(tmp_path / "cache"))
    files = [Path(picture["path"]) for picture in theirs.cast_column("image", Image(decode=False))["image"]]
    assert {str(file.relative_to(split_folder)) for file in files} == captions_of(read(split_folder)).keys()


def write_two_columns(folder, header, misleading="nowhere.png"):
    with (folder / "metadata.csv").open("w", newline="") as content:
        csv.writer(content).writerows([header, *([misleading, name, text] for name, text in CAPTIONS.items())])


@pytest.mark.parametrize("other", ["path", "image", "file", "Image", "url_of"])
def test_the_column_file_name_names_the_pictures_whatever_else_there_is(folder, other):
    write_two_columns(folder, [other, "file_name", "text"], "17" if other == "url_of" else "nowhere.png")
    sets = read(folder)
    assert captions_of(sets) == CAPTIONS
    assert sets.facts["image_column"] == "file_name"


@pytest.mark.parametrize("wanted", ["path", "Path", "PATH"])
def test_another_column_of_pictures_can_be_chosen(folder, wanted):
    write_two_columns(folder, ["file_name", "path", "text"])
    assert captions_of(read(folder, image_column=wanted)) == CAPTIONS


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (["filename", "text"], "filename"),
        (["filename", "text"], "image"),
        (["File_Name", "Text"], None),
        (["Image", "Caption"], None),
        (["photo_file_name", "text"], "photo"),
        (["photo_file_name", "text"], "photo_file_name"),
        (["photo", "text"], "photo"),
    ],
)
def test_a_column_has_its_own_name_and_that_of_the_datasets_library(folder, header, wanted):
    write_csv(folder, "metadata.csv", header)
    settings = {"image_column": wanted, "caption_column": header[1].upper() if wanted else None}
    assert captions_of(read(folder, **settings)) == CAPTIONS


def test_a_column_that_is_missing_or_ambiguous_is_refused(folder):
    write_csv(folder, "metadata.csv", ["file_name", "text"])
    with pytest.raises(TaskError, match=r"'photo' is not a column of images in .*; valid: file_name"):
        read(folder, image_column="photo")
    write_two_columns(folder, ["mask_file_name", "photo_file_name", "text"])
    with pytest.raises(TaskError, match=r"several image columns \(mask_file_name, photo_file_name\)"):
        read(folder)


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
    assert len(captions_of(sets)) == 11
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


@pytest.mark.parametrize("suffix", ["", ".png"])
def test_the_metadata_of_kohya_is_read(folder, suffix):
    rows = {f"{i}{suffix}": {"caption": CAPTIONS[f"{i}.png"], "train_resolution": [64, 64]} for i in range(10)}
    (folder / "metadata.json").write_text(json.dumps(rows, indent=1))
    assert captions_of(read(folder)) == CAPTIONS


def test_a_caption_that_is_not_utf8_is_a_bad_item(folder):
    write_texts(folder)
    (folder / "3.txt").write_bytes(b"caf\xe9")
    with pytest.raises(TaskError, match=r"3\.txt' cannot be read .*--task\.on-bad-item skip"):
        read(folder)
    sets = read(folder, on_bad_item="skip")
    assert sets.facts["left_out_items"] == {"pictures with an unreadable caption": ["3.png"]}
    assert captions_of(sets) == {name: text for name, text in CAPTIONS.items() if name != "3.png"}


@pytest.mark.parametrize(
    ("value", "type_name"), [(["a", "b"], "lists"), (3, "numbers"), ("4.5", "numbers"), ("", "empty")]
)
def test_a_column_that_is_not_text_is_named_with_its_type(folder, value, type_name):
    rows = [json.dumps({"file_name": name, "tags": value}) for name in CAPTIONS]
    (folder / "metadata.jsonl").write_text("\n".join(rows))
    with pytest.raises(TaskError, match=rf"no text column; it has tags \({type_name}\)" if value else "empty caption"):
        read(folder)


def test_a_long_list_of_columns_is_shortened(folder):
    write_csv(folder, "metadata.csv", [f"column{i}" for i in range(40)])
    with pytest.raises(TaskError, match="column3, column4 and 35 more, none of which names the pictures"):
        read(folder)
