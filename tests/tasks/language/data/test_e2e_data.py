"""The readers of the E2E data: what they read, and that every broken file gives one sentence."""

import csv
import io

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.errors import TaskError
from tasks.language.data.e2e_data import OFFICIAL_FILES, load
from tasks.language.data.meanings import Item, meaning_key, parse_meaning
from tasks.language.data.templates import format_meaning

WORDS = st.text(st.characters(categories=["L", "N", "Sc"], include_characters=" '&-"), min_size=1, max_size=12)
WORD = WORDS.map(str.strip).filter(bool)
MEANINGS = st.dictionaries(WORD, WORD, min_size=1, max_size=6)
SAME_FOLDER = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def same_meaning(meaning):
    return meaning_key(Item("", meaning, ()))


def lines(items) -> set[str]:
    return {item.line for item in items}


@settings(max_examples=50)
@given(MEANINGS)
def test_a_formatted_meaning_is_read_back(meaning):
    assert parse_meaning(format_meaning(meaning)) == meaning


@pytest.mark.parametrize("line", ["", "name", "name[The Mill", "[x]", "name[a] food[b]", "name[a]], x[b]"])
def test_malformed_meanings_are_errors(line):
    with pytest.raises(ValueError, match=r"empty|is not of the form slot"):
        parse_meaning(line)


def test_a_single_file_is_split_by_meaning(e2e_csv):
    splits = load(str(e2e_csv), 1, 100)
    train, validation, test = map(lines, (splits.train, splits.validation, splits.test))
    assert len(train) + len(validation) + len(test) == 20
    assert len(train | validation | test) == 20  # disjoint
    assert load(str(e2e_csv), 1, 100) == splits
    assert len(load(str(e2e_csv), 1, 1).test) == 1


def test_the_official_folder(e2e_csv, tmp_path):
    for name in OFFICIAL_FILES.values():
        (tmp_path / name).write_bytes(e2e_csv.read_bytes())
    (tmp_path / "trainset.csv").write_text('mr,ref\n"name[Elsewhere], food[Thai]","Elsewhere is Thai."\n')
    splits = load(str(tmp_path), 1, 100)
    assert lines(splits.train) == {"name[Elsewhere], food[Thai]"}
    assert (len(splits.validation), len(splits.test)) == (0, 20)
    (tmp_path / "devset.csv").unlink()
    with pytest.raises(TaskError, match=r"lacks devset\.csv"):
        load(str(tmp_path), 1, 100)


def test_training_meanings_that_are_tested_too_are_left_out(e2e_csv, tmp_path):
    for name in OFFICIAL_FILES.values():
        (tmp_path / name).write_bytes(e2e_csv.read_bytes())
    assert not load(str(tmp_path), 1, 100).train


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "it is empty"),
        (b"mr,text\nname[a],b\n", "lacks the column ref"),
        (b"mr,ref\n", "has no rows"),
        (b"mr,ref\nname[a],\n", "empty reference"),
        (b"mr,ref\nname a,b\n", "cannot be read"),
        (b'mr,ref\n"name[a],b\n', "cannot be read"),
        (b"mr,ref\nname[a],\xff\xfe\n", "cannot be read"),
        (b"mr,ref\nname[a],b\n", "at least 10"),
        (b"mr,ref\nname[a]\n", "empty reference"),
        (
            b'mr,ref\n"name[a]","two\nlines"\n,b\n',
            r"line 4, has a meaning that cannot be read \(the m.* is empty",
        ),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(tmp_path, content, expected):
    file = tmp_path / "broken.csv"
    file.write_bytes(content)
    check_refusal(file, expected)


def test_bad_rows_are_skipped_and_counted_on_request(e2e_csv, tmp_path):
    file = tmp_path / "some-bad.csv"
    lines_before = e2e_csv.read_bytes().count(b"\n")
    file.write_bytes(e2e_csv.read_bytes() + b'no meaning,A text.\n"name[The Mill]",\n')
    splits = load(str(file), 1, 100, "skip")
    assert splits.facts["left_out"] == {"empty references": 1, "unreadable meanings": 1}
    assert splits.facts["left_out_items"]["unreadable meanings"] == [f"line {lines_before + 1}: 'no meaning'"]
    assert splits.facts["left_out_items"]["empty references"] == [f"line {lines_before + 2}"]
    assert splits.train == load(str(e2e_csv), 1, 100).train
    with pytest.raises(TaskError, match=r"--task\.on-bad-item skip"):
        load(str(file), 1, 100)


def test_too_few_meanings_are_named_with_what_is_left_out(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("mr,ref\nname[a],b\n" + "no meaning,b\n" * 2 + ",b\nname[c],\n")
    reasons = r"empty references: 1 \(line 6\); unreadable meanings: 2 \(line 3: 'no meaning', line 5: ''\)"
    with pytest.raises(TaskError, match=f"has 1 meaning that can be used; .*correct what is left out .{reasons}"):
        load(str(file), 1, 100, "skip")


@pytest.mark.parametrize("name", ["rows.json", "rows.JSONL"])
def test_a_json_file_is_refused_by_name(tmp_path, name):
    file = tmp_path / name
    file.write_text('[{"mr": "name[a]", "ref": "b"}]')
    check_refusal(file, "is a JSON file: expected a CSV file")


def check_refusal(file, expected: str) -> None:
    with pytest.raises(TaskError, match=expected) as caught:
        load(str(file), 10, 10)
    message = str(caught.value)
    assert str(file) in message
    assert "expected" in message
    assert "\n" not in message


@SAME_FOLDER
@given(
    content=st.one_of(
        st.binary(max_size=200), st.text(max_size=200).map(lambda t: ("mr,ref\n" + t).encode("utf-8", "ignore"))
    )
)
def test_any_bytes_are_read_or_refused(tmp_path, content):
    file = tmp_path / "any.csv"
    file.write_bytes(content)
    refusal = ""
    try:
        load(str(file), 10, 10)
    except TaskError as error:
        refusal = str(error)
    assert refusal == "" or (str(file) in refusal and "expected" in refusal)


@SAME_FOLDER
@given(meanings=st.lists(MEANINGS, min_size=10, max_size=14, unique_by=same_meaning), text=WORD)
def test_any_well_formed_file_is_read(tmp_path, meanings, text):
    file = tmp_path / "good.csv"
    rows = io.StringIO()
    csv.writer(rows).writerows(
        [("mr", "ref"), *((format_meaning(each), f"{text} {i}") for i, each in enumerate(meanings))]
    )
    file.write_text(rows.getvalue(), encoding="utf-8", newline="")
    splits = load(str(file), 1, 100)
    items = [*splits.train, *splits.validation, *splits.test]
    assert sorted(item.line for item in items) == sorted(format_meaning(meaning) for meaning in meanings)


def test_an_unknown_name_lists_what_is_possible():
    with pytest.raises(TaskError, match="restaurants"):
        load("no-such/dataset", 10, 10)
