"""WebNLG's and DART's official files: the same entries in JSON and XML, and what cannot be used."""

import json
from typing import Any

import pytest
import torch

from tasks.errors import TaskError
from tasks.language.data import e2e_data
from tasks.language.data.triples import is_triples
from tasks.language.e2e import EndToEnd

AIRPORT = ("Aarhus_Airport", "runwayLength", "2702.0")
LEADER = ("Aarhus", "leaderName", "Jacob_Bundsgaard")


def texts_of(number):
    return [f"Text {number} of the airport.", f"The airport of text {number}."]


def webnlg_entry(triples, texts, **more) -> dict[str, Any]:
    names = ("subject", "property", "object")
    lexicalisations = [{"comment": "good", "lang": "", "lex": text, "xml_id": "Id1"} for text in texts]
    lexicalisations += [
        {"comment": "toFix", "lang": "", "lex": "a bad text", "xml_id": "Id8"},
        {"comment": "good", "lang": "ru", "lex": "a Russian text", "xml_id": "Id9"},
    ]
    sets = [dict(zip(names, triple, strict=True)) for triple in triples]
    return {"category": "Airport", "lexicalisations": lexicalisations, "modifiedtripleset": sets} | more


def triples(number):
    return [AIRPORT, (LEADER[0], LEADER[1], f"{LEADER[2]}_{number}")]


def write_webnlg(folder, counts):
    for split, numbers in counts.items():
        entries = [{str(i + 1): webnlg_entry(triples(n), texts_of(n))} for i, n in enumerate(numbers)]
        (folder / f"{split}.json").write_text(json.dumps({"entries": entries}), encoding="utf-8")


def write_dart(folder, counts):
    for split, numbers in counts.items():
        rows = [
            {
                "tripleset": [list(triple) for triple in triples(n)],
                "subtree_was_extended": False,
                "annotations": [{"source": "WikiTableQuestions_lily", "text": text} for text in texts_of(n)],
            }
            for n in numbers
        ]
        (folder / f"dart-v1.1.1-full-{split}.json").write_text(json.dumps(rows), encoding="utf-8")


def write_xml(folder, counts):
    for split, numbers in counts.items():
        (folder / split / "2triples").mkdir(parents=True)
        for n in numbers:
            rows = "".join(f"<mtriple>{' | '.join(triple)}</mtriple>" for triple in triples(n))
            texts = "".join(f'<lex comment="good" lid="Id1">{text}</lex>' for text in texts_of(n))
            (folder / split / "2triples" / f"Airport_{n}.xml").write_text(
                f'<benchmark><entries><entry category="Airport" eid="Id{n}" size="2"><originaltripleset>'
                f"<otriple>x | y | z</otriple></originaltripleset><modifiedtripleset>{rows}</modifiedtripleset>{texts}"
                '<lex comment="toFix" lid="Id2">a bad text</lex></entry></entries></benchmark>'
            )


COUNTS = {"train": range(12), "dev": range(12, 15), "test": range(15, 19)}


@pytest.mark.parametrize("write", [write_webnlg, write_dart, write_xml])
def test_the_official_files_are_read_alike(tmp_path, write):
    write(tmp_path, COUNTS)
    splits = e2e_data.load(str(tmp_path), 5, 100)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [12, 3, 4]
    first = splits.train[0]
    expected = "Aarhus_Airport : runwayLength : 2702.0 | Aarhus : leaderName : Jacob_Bundsgaard_0"
    assert (first.line, first.references) == (expected, tuple(texts_of(0)))
    assert is_triples(first.line)
    assert "left_out" not in splits.facts


def test_what_splits_share_is_the_tests_whatever_the_order_of_triples(tmp_path):
    write_webnlg(tmp_path, {"train": range(6), "dev": [5, 6], "test": [7]})
    entry = webnlg_entry(triples(3)[::-1], ["Another text."])
    (tmp_path / "test.json").write_text(json.dumps({"entries": [{"1": entry}]}))
    splits = e2e_data.load(str(tmp_path), 5, 100)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [4, 2, 1]
    assert splits.facts["left_out"] == {"meanings of train that are held out too": 2}


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (webnlg_entry([], ["a"]), "no triples"),
        (webnlg_entry([AIRPORT], []), "no text in English"),
        ({"tripleset": [["a", "b"]], "annotations": [{"text": "x"}]}, "the triple"),
        ({"text": "x"}, "another form"),
        (["x"], "another form"),
    ],
)
def test_an_unusable_entry_is_named_or_skipped(tmp_path, entry, expected):
    write_dart(tmp_path, COUNTS)
    file = tmp_path / "dart-v1.1.1-full-train.json"
    file.write_text(json.dumps([*json.loads(file.read_text()), entry]))
    with pytest.raises(TaskError, match=rf"entry 13, has {expected}"):
        e2e_data.load(str(tmp_path), 5, 100)
    skipped = e2e_data.load(str(tmp_path), 5, 100, "skip")
    assert len(skipped.train) == 12
    assert skipped.facts["left_out"] == {"unusable entries": 1}


@pytest.mark.parametrize(("content", "expected"), [("{", "cannot be read"), ('{"rows": []}', "neither 'entries'")])
def test_a_broken_file_is_refused(tmp_path, content, expected):
    write_webnlg(tmp_path, COUNTS)
    (tmp_path / "dev.json").write_text(content)
    with pytest.raises(TaskError, match=expected):
        e2e_data.load(str(tmp_path), 5, 100)


def test_triples_are_scored_like_e2e_without_slots(tiny_base, tmp_path):
    write_dart(tmp_path, COUNTS)
    task = EndToEnd(base=tiny_base, data=str(tmp_path), drift_items=2, max_new_tokens=4, num_beams=1)
    evaluation = task.prepare(torch.device("cpu")).evaluate()
    assert {"bleu", "nist", "rouge_l_13a", "cider_13a", "reference_perplexity"} <= evaluation.figures.keys()
    assert {"slot_accuracy", "slots_wrong"} <= evaluation.not_measured.keys()
    assert evaluation.items[0]["meaning"].count(" : ") == 4
    loaded = task.load_base(torch.device("cpu"))
    assert loaded.generate(["Aarhus : leaderName : Jacob"], max_new_tokens=3)
    with pytest.raises(TaskError, match="cannot be read"):
        loaded.generate(["Aarhus : leaderName"])
