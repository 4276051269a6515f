"""WebNLG's and DART's official files: triples of subject, property and object, with the texts that say them.

WebNLG (Gardent et al. 2017): train.json, dev.json and test.json, or folders train, dev and test with XML files. DART
(Nan et al. 2021): dart-v1.1.1-full-train.json, -dev.json and -test.json. A meaning is written as in the code of Hu et
al. 2021, "subject : property : object | ...".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tasks.bad_items import BadItem, BadItems
from tasks.errors import TaskError
from tasks.language.data.meanings import Item

SPLITS = {"train": "train", "validation": "dev", "test": "test"}  # of a task: in names of files
BETWEEN, PARTS = " | ", " : "
TRIPLE_FORMS = (
    "WebNLG's train.json, dev.json and test.json (or folders of XML files), or DART's dart-v1.1.1-full-train.json, ..."
)


class Entry(NamedTuple):
    """Triples with their texts; `place` says where they are in their file."""

    place: str
    triples: list[tuple[str, str, str]]
    texts: list[str]


class WrongForm(ValueError):
    """An entry or a file that has another form: what is wrong with it."""


def triple_files(folder: Path) -> dict[str, list[Path]] | None:
    """The files of each split; None if a split has none. Raises TaskError for two JSON files of one split."""
    files = {split: _files(folder, word) for split, word in SPLITS.items()}
    return files if all(files.values()) else None


def read_triples(files: Sequence[Path], source: str, bad: BadItems) -> list[Item]:
    """The meanings of a split's files. Raises BadItem under the policy "fail", and TaskError for another format."""
    texts: dict[frozenset[tuple[str, str, str]], tuple[Entry, list[str]]] = {}
    for file in files:
        try:
            entries = _xml_entries(file) if file.suffix == ".xml" else _json_entries(file)
        except (OSError, ValueError, ElementTree.ParseError) as error:
            raise TaskError(f"--task.data '{file}' cannot be read ({error}): expected {TRIPLE_FORMS}") from error
        for number, raw in enumerate(entries, start=1):
            place = f"{file.name} entry {number}"
            with bad.skipped():
                entry = _checked(place, raw, source)
                texts.setdefault(frozenset(entry.triples), (entry, []))[1].extend(entry.texts)
    return [
        Item(line_of(entry.triples), meaning_of(entry.triples), tuple(dict.fromkeys(each)))
        for entry, each in texts.values()
    ]


def line_of(triples: Sequence[tuple[str, str, str]]) -> str:
    return BETWEEN.join(PARTS.join(triple) for triple in triples)


def meaning_of(triples: Sequence[tuple[str, str, str]]) -> dict[str, str]:
    """ "subject : property" to object; several objects of one are joined, in their alphabetical order."""
    objects: dict[str, list[str]] = {}
    for subject, name, value in triples:
        objects.setdefault(f"{subject}{PARTS}{name}", []).append(value)
    return {key: BETWEEN.join(sorted(values)) for key, values in objects.items()}


def is_triples(line: str) -> bool:
    """Whether a line that a user typed has the form "subject : property : object | ..."."""
    return all(len([part for part in triple.split(PARTS) if part.strip()]) >= 3 for triple in line.split(BETWEEN))


def _files(folder: Path, word: str) -> list[Path]:
    if (folder / word).is_dir():
        return sorted((folder / word).rglob("*.xml"))
    names = sorted(path for path in folder.glob("*.json") if word in path.stem.lower().replace("-", "_").split("_"))
    if len(names) > 1:
        raise TaskError(
            f"--task.data '{folder}' has {', '.join(file.name for file in names)} for one split: expected one of them"
        )
    return names


def _json_entries(file: Path) -> list[Any]:
    """The entries of WebNLG's JSON ("entries", each under its number) or of DART's (a list)."""
    content = json.loads(file.read_text(encoding="utf-8-sig"))
    if isinstance(content, Mapping) and isinstance(content.get("entries"), list):
        return [value for entry in content["entries"] for value in dict(entry).values()]
    if isinstance(content, list):
        return content
    raise WrongForm("it has neither 'entries' nor a list")


def _xml_entries(file: Path) -> Iterator[dict[str, Any]]:
    """The entries of WebNLG's XML, as its JSON has them."""
    for entry in ElementTree.parse(file).getroot().iter("entry"):
        chosen = entry.find("modifiedtripleset")
        rows = [] if chosen is None else [(node.text or "").split("|") for node in chosen.iter("mtriple")]
        yield {
            "tripleset": [[part.strip() for part in row] for row in rows],
            "lexicalisations": [dict(node.attrib) | {"lex": node.text or ""} for node in entry.iter("lex")],
        }


def _checked(place: str, raw: Any, source: str) -> Entry:
    """The entry of a file. Raises BadItem."""
    try:
        triples, texts = [_triple(each) for each in _triples(raw)], [text for text in _texts(raw) if text]
        if not triples:
            raise WrongForm("no triples")
        if not texts:
            raise WrongForm("no text in English that is marked as good")
    except (WrongForm, AttributeError, KeyError, TypeError) as wrong:
        problem = str(wrong) if isinstance(wrong, WrongForm) else "another form"
        sentence = f"--task.data '{source}', {place}, has {problem}: expected {TRIPLE_FORMS}; correct that entry"
        raise BadItem("unusable entries", place, sentence) from None
    return Entry(place, triples, texts)


def _triples(raw: Mapping[str, Any]) -> list[Any]:
    return raw["tripleset"] if "tripleset" in raw else raw["modifiedtripleset"]


def _triple(raw: Any) -> tuple[str, str, str]:
    parts = [raw["subject"], raw["property"], raw["object"]] if isinstance(raw, Mapping) else list(raw)
    if len(parts) != 3 or not all(isinstance(part, str) and part.strip() for part in parts):
        raise WrongForm(f"the triple {parts}")
    subject, name, value = (" ".join(part.split()) for part in parts)
    return subject, name, value


def _texts(raw: Mapping[str, Any]) -> Iterator[str]:
    """DART's annotations, or WebNLG's English lexicalisations that its annotators judged as good."""
    for each in raw.get("annotations", ()):
        yield " ".join(each["text"].split())
    for each in raw.get("lexicalisations", ()):
        if each.get("comment", "good") in ("good", "") and each.get("lang", "") in ("", "en"):
            yield " ".join(each["lex"].split())
