"""Data of the e2e task: meanings with their references, synthetic, from CSV files, or from the hub."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from tasks.bad_items import BadItems, OnBadItem, first_names, numbered
from tasks.errors import TaskError
from tasks.file_digests import file_digest
from tasks.language.data.kept_apart import SharedItems, beyond, normalised
from tasks.language.data.meanings import Item, Pair, grouped, meaning_key
from tasks.language.data.triples import TRIPLE_FORMS, read_triples, triple_files
from tasks.tables import read_numbered_csv

DRAWN = "restaurants"  # by this package
OFFICIAL_FILES = {"train": "trainset.csv", "validation": "devset.csv", "test": "testset_w_refs.csv"}
HUB_COLUMNS = {"mr": ("mr", "meaning_representation"), "ref": ("ref", "human_reference", "target")}
JSON_FILES = {".json", ".jsonl"}
NEW_SHARE = 0.3  # share of the names in validation and test that do not occur in training
TRAIN_REFERENCES, TEST_REFERENCES = 4, 8


@dataclass(frozen=True)
class MeaningSplits:
    """Splits that share no meaning and no text; `source` and `revision` identify the data.

    `facts` counts what is left out.
    """

    train: list[Item]
    validation: list[Item]
    test: list[Item]
    source: str
    revision: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def load(data: str, train_items: int, test_items: int, on_bad_item: OnBadItem = "fail") -> MeaningSplits:
    """Load "restaurants" (`train_items` synthetic meanings), a folder with the official files of E2E, WebNLG or DART, a
    CSV file, or a hub dataset, with at most `test_items` meanings in validation and in test.

    Raises TaskError if the data cannot be read.
    """
    path, bad = Path(data).expanduser(), BadItems(on_bad_item)
    if data == DRAWN:
        splits = _restaurants(train_items, test_items)
    elif path.is_dir():
        splits = _from_folder(path, bad)
    elif path.is_file():
        splits = _from_file(path, bad)
    else:
        splits = _from_hub(data, bad)
    shared = SharedItems()
    parts = _apart({"train": splits.train, "validation": splits.validation, "test": splits.test}, shared)
    for split in ("validation", "test") if data != DRAWN else ():
        used = sample(parts[split], test_items)
        lines = {item.line for item in used}
        shared.leave_out(beyond("meanings", split), [item.line for item in parts[split] if item.line not in lines])
        parts[split] = used
    return replace(splits, **parts, source=data, facts=shared.facts(bad.facts()))


def _apart(parts: Mapping[str, list[Item]], shared: SharedItems) -> dict[str, list[Item]]:
    """The splits without the meanings, and then the texts, that an earlier one has (`SharedItems.take_out`)."""
    meanings = shared.take_out(parts, "meanings", meaning_key, lambda item: item.line)
    texts = {split: [(item, text) for item in items for text in item.references] for split, items in meanings.items()}
    kept = shared.take_out(texts, "texts", lambda pair: normalised(pair[1]), lambda pair: pair[0].line)
    return {split: _with_texts(pairs) for split, pairs in kept.items()}


def _with_texts(pairs: Sequence[tuple[Item, str]]) -> list[Item]:
    """Items with the references that are paired with them."""
    texts: dict[str, tuple[Item, list[str]]] = {}
    for item, text in pairs:
        texts.setdefault(item.line, (item, []))[1].append(text)
    return [replace(item, references=tuple(references)) for item, references in texts.values()]


def sample(items: list[Item], count: int) -> list[Item]:
    """At most `count` items, the same on every call."""
    return Random(0).sample(items, min(count, len(items)))


def _restaurants(train_items: int, test_items: int) -> MeaningSplits:
    from tasks.language.data import restaurants
    from tasks.language.data.templates import format_meaning

    taken: set[tuple] = set()
    parts: list[list[Item]] = []
    plan = (
        (train_items, 1, 0.0, TRAIN_REFERENCES),
        (test_items, 2, NEW_SHARE, 1),
        (test_items, 3, NEW_SHARE, TEST_REFERENCES),
    )
    for count, seed, new_share, references in plan:
        meanings = restaurants.distinct_meanings(count, seed, new_share, taken)
        parts.append([Item(format_meaning(m), m, tuple(restaurants.references(m, references, seed))) for m in meanings])
    train, validation, test = parts
    return MeaningSplits(train, validation, test, "restaurants", f"restaurants-1 ({train_items} drawn)")


def _from_folder(folder: Path, bad: BadItems) -> MeaningSplits:
    of_triples = triple_files(folder)
    if of_triples is not None:
        parts = {split: read_triples(files, str(folder), bad) for split, files in of_triples.items()}
        revision = file_digest(*(file for files in of_triples.values() for file in files))
        return MeaningSplits(parts["train"], parts["validation"], parts["test"], str(folder), revision)
    missing = [name for name in OFFICIAL_FILES.values() if not (folder / name).is_file()]
    if missing:
        raise TaskError(
            f"--task.data '{folder}' lacks {', '.join(missing)}: expected a folder with the E2E data's official "
            f"files ({', '.join(OFFICIAL_FILES.values())}), {TRIPLE_FORMS}, or one CSV file"
        )
    files = {split: folder / name for split, name in OFFICIAL_FILES.items()}
    parts = {split: grouped(read_pairs(file), str(file), bad) for split, file in files.items()}
    return MeaningSplits(parts["train"], parts["validation"], parts["test"], str(folder), file_digest(*files.values()))


def _from_file(file: Path, bad: BadItems) -> MeaningSplits:
    """Assign a tenth of the meanings to validation and a tenth to test."""
    same: dict[frozenset[tuple[str, str]], list[Item]] = {}
    for item in grouped(read_pairs(file), str(file), bad):
        same.setdefault(meaning_key(item), []).append(item)
    if len(same) < 10:
        raise TaskError(
            f"--task.data '{file}' has {numbered(len(same), 'meaning')} that can be used; expected at least 10, to be "
            f"split by meaning into training, validation and test: {bad.advice('use a larger file')}"
        )
    groups = list(same.values())
    Random(0).shuffle(groups)
    tenth = len(groups) // 10
    parts = (groups[2 * tenth :], groups[:tenth], groups[tenth : 2 * tenth])
    train, validation, test = ([item for group in part for item in group] for part in parts)
    return MeaningSplits(train, validation, test, str(file), file_digest(file))


def _from_hub(name: str, bad: BadItems) -> MeaningSplits:
    import datasets

    try:
        loaded = datasets.load_dataset(name)
    except Exception as error:  # datasets raises a dozen types for a missing, gated or broken dataset
        raise TaskError(
            f"--task.data '{name}' is neither a file nor a folder and could not be loaded from the hub "
            f"({type(error).__name__}): expected 'restaurants', a folder with {OFFICIAL_FILES['train']}, a CSV file "
            "with the columns mr and ref, or a hub dataset (which needs a network)"
        ) from error
    if not isinstance(loaded, Mapping) or not OFFICIAL_FILES.keys() <= loaded.keys():
        raise TaskError(f"--task.data '{name}' lacks a split: expected a dataset with train, validation and test")
    parts = {split: grouped(_hub_pairs(loaded[split], name), name, bad) for split in OFFICIAL_FILES}
    fingerprint = "-".join(loaded[split]._fingerprint for split in OFFICIAL_FILES)
    return MeaningSplits(parts["train"], parts["validation"], parts["test"], name, fingerprint)


def _hub_pairs(rows, name: str) -> list[Pair]:
    chosen = [next((c for c in names if c in rows.column_names), None) for names in HUB_COLUMNS.values()]
    if None in chosen:
        raise TaskError(
            f"--task.data '{name}' has the columns {first_names(rows.column_names)}; expected one for meanings "
            f"({' or '.join(HUB_COLUMNS['mr'])}) and one for references ({' or '.join(HUB_COLUMNS['ref'])})"
        )
    pairs = zip(rows[chosen[0]], rows[chosen[1]], strict=True)
    return [Pair(f"row {number}", *pair) for number, pair in enumerate(pairs, start=1)]


def read_pairs(file: Path) -> list[Pair]:
    """The pairs of a CSV file. Raises TaskError if its format is wrong."""
    advice = "expected a CSV file in UTF-8 with the columns mr and ref"
    if file.suffix.lower() in JSON_FILES:
        raise TaskError(f"--task.data '{file}' is a JSON file: {advice}")
    try:
        numbered_rows = read_numbered_csv(file)
    except (OSError, ValueError) as error:
        raise TaskError(f"--task.data '{file}' cannot be read ({error}): {advice}") from error
    rows = [(line, {name.lower(): value.strip() for name, value in row.items()}) for line, row in numbered_rows]
    if not rows:
        raise TaskError(f"--task.data '{file}' has no rows: {advice} and at least 10 meanings")
    for column in ("mr", "ref"):
        if column not in rows[0][1]:
            has = first_names(list(rows[0][1]))
            raise TaskError(f"--task.data '{file}' lacks the column {column} (it has {has}): {advice}")
    return [Pair(f"line {line}", row["mr"], row["ref"]) for line, row in rows]
