"""Data of the sft task: conversations, synthetic, from a file (split by prompt), a folder of splits, or the hub."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from tasks.bad_items import BadItems, OnBadItem, numbered
from tasks.errors import TaskError
from tasks.file_digests import file_digest
from tasks.language.data.kept_apart import SharedItems, beyond
from tasks.language.data.sft.conversations import Conversation, conversation_key, read_conversations
from tasks.language.data.sft.instruction_sets import SETS, instruction_set, read_hub
from tasks.tables import read_numbered_csv, read_numbered_json

DRAWN = "word-problems"  # by this package
DRAWN_ITEMS = 2000
SPLIT_NAMES = {"train": ("train",), "validation": ("validation", "valid", "val", "dev"), "test": ("test",)}
TABLES = (".jsonl", ".json", ".csv", ".tsv")
BEYOND_TRAIN = "conversations of train beyond --task.train-items"
LEAST = 10  # prompts in a file of which validation or test is a tenth
FORMS = (
    f"'{DRAWN}', a JSONL, JSON or CSV file, a folder with train, validation and test files, one of {', '.join(SETS)}, "
    "or a hub dataset 'org/name'"
)


@dataclass(frozen=True)
class ConversationSplits:
    """Splits that share no prompt; `source` and `revision` identify the data, `facts` counts what is left out."""

    train: list[Conversation]
    validation: list[Conversation]
    test: list[Conversation]
    source: str
    revision: str
    facts: Mapping[str, Any] = field(default_factory=dict)


def load(data: str, train_items: int | None, test_items: int, on_bad_item: OnBadItem = "fail") -> ConversationSplits:
    """Load at most `train_items` conversations for training, and at most `test_items` for validation and for test.

    Raises TaskError if the data cannot be read.
    """
    path, bad, shared = Path(data).expanduser(), BadItems(on_bad_item), SharedItems()
    if data == DRAWN:
        return _drawn(train_items or DRAWN_ITEMS, test_items)
    if path.is_dir():
        parts, revision = _from_folder(path, bad)
    elif path.is_file():
        parts, revision = {"train": _read(path, bad)}, file_digest(path)
    else:
        parts, revision = _from_hub(data, bad)
    parts = shared.take_out(_divided(parts, data, bad), "conversations", conversation_key, lambda item: item.place)
    _require_items(parts, data, bad)
    for split, most in (("train", train_items), ("validation", test_items), ("test", test_items)):
        kept = _sample(parts[split], most)
        if len(kept) < len(parts[split]):
            kind = BEYOND_TRAIN if split == "train" else beyond("conversations", split)
            places = {item.place for item in kept}
            shared.leave_out(kind, [item.place for item in parts[split] if item.place not in places])
        parts[split] = kept
    return ConversationSplits(**parts, source=data, revision=revision, facts=shared.facts(bad.facts()))


def as_conversations(splits: ConversationSplits) -> ConversationSplits:
    """The same splits, with every prompt and completion as the messages of a user and an assistant."""
    parts = {
        name: [replace(item, is_chat=True) for item in getattr(splits, name)]
        for name in ("train", "validation", "test")
    }
    return replace(splits, **parts)


def holds_chats(data: str) -> bool | None:
    """Whether the data's first usable row is a conversation; None if the data are not available here."""
    if data == DRAWN:
        return False
    try:
        return load(data, 1, 1, "skip").train[0].is_chat
    except TaskError:
        return None


def _sample(items: list[Conversation], count: int | None) -> list[Conversation]:
    """At most `count` items in their order, the same on every call."""
    if count is None or count >= len(items):
        return items
    return [items[i] for i in sorted(Random(0).sample(range(len(items)), count))]


def _drawn(train_items: int, test_items: int) -> ConversationSplits:
    from tasks.language.data.sft.word_problems import NEW_SHARE, distinct_problems

    taken: set[str] = set()
    test = distinct_problems(test_items, 3, NEW_SHARE, taken)
    validation = distinct_problems(test_items, 2, NEW_SHARE, taken)
    train = distinct_problems(train_items, 1, 0.0, taken)
    return ConversationSplits(train, validation, test, DRAWN, f"{DRAWN}-1 ({train_items} drawn)")


def _from_folder(folder: Path, bad: BadItems) -> tuple[dict[str, list[Conversation]], str]:
    files = {split: _split_file(folder, names) for split, names in SPLIT_NAMES.items()}
    existing = {split: file for split, file in files.items() if file is not None}
    if "train" not in existing:
        raise TaskError(
            f"--task.data '{folder}' has no train file: expected train.jsonl (or .json, .csv), and validation.jsonl "
            "and test.jsonl, which are otherwise taken from it"
        )
    return {split: _read(file, bad, split) for split, file in existing.items()}, file_digest(*existing.values())


def _split_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The split's file. Raises TaskError if there are several."""
    files = [file for name in names for suffix in TABLES if (file := folder / f"{name}{suffix}").is_file()]
    if len(files) > 1:
        several = ", ".join(file.name for file in files)
        raise TaskError(f"--task.data '{folder}' has {several} for one split: expected one of them; remove the others")
    return files[0] if files else None


def _read(file: Path, bad: BadItems, split: str | None = None) -> list[Conversation]:
    """The conversations of a table. Raises TaskError if its format is wrong."""
    try:
        rows: Iterable[tuple[int, Mapping[str, Any]]]
        is_json = file.suffix.lower() in (".jsonl", ".json")
        rows = read_numbered_json(file) if is_json else read_numbered_csv(file, keep_spaces=True)
    except (OSError, ValueError) as error:
        raise TaskError(
            f"--task.data '{file}' cannot be read ({error}): expected a file in UTF-8 with a JSON object per line, a "
            "JSON array of objects, or CSV with a header"
        ) from error
    prefix = "" if split is None else f"{split} "
    return read_conversations(((f"{prefix}line {line}", row) for line, row in rows), str(file), bad)


def _from_hub(data: str, bad: BadItems) -> tuple[dict[str, list[Conversation]], str]:
    chosen = instruction_set(data)
    if chosen is None:
        raise TaskError(f"--task.data '{data}' is neither a file, a folder nor a known dataset: expected {FORMS}")
    rows, revision = read_hub(chosen, data)
    return {split: read_conversations(of_split, data, bad) for split, of_split in rows.items()}, revision


def _divided(parts: dict[str, list[Conversation]], data: str, bad: BadItems) -> dict[str, list[Conversation]]:
    """All three splits: those that the data lack are a tenth of the training conversations each, split by prompt."""
    missing = [split for split in ("validation", "test") if split not in parts]
    if not missing:
        return parts
    groups: dict[str, list[Conversation]] = {}
    for item in parts["train"]:
        groups.setdefault(conversation_key(item), []).append(item)
    if len(groups) < LEAST:
        advice = bad.advice("use a file with more different prompts")
        raise TaskError(
            f"--task.data '{data}' has {numbered(len(groups), 'prompt')} that can be used; expected at least {LEAST}, "
            f"to be split by prompt into training, {' and '.join(missing)}: {advice}"
        )
    shuffled, divided = list(groups.values()), dict(parts)
    Random(0).shuffle(shuffled)
    tenth = len(shuffled) // 10
    for split in missing:
        divided[split] = [item for group in shuffled[:tenth] for item in group]
        shuffled = shuffled[tenth:]
    divided["train"] = [item for group in shuffled for item in group]
    return divided


def _require_items(parts: Mapping[str, list[Conversation]], data: str, bad: BadItems) -> None:
    for split, items in parts.items():
        if not items:
            advice = bad.advice("expected prompts that no other split has")
            raise TaskError(f"--task.data '{data}' has no conversation for {split}: {advice}")
