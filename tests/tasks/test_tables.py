"""Tables that people write by hand: read as they are meant, or refused with the line; nothing is cut silently."""

import csv
import io
import json

import pytest

from tasks.diffusion.pokemon import Pokemon
from tasks.errors import TaskError
from tasks.language.data.e2e_data import read_pairs
from tasks.tables import read_csv, read_json_lines
from tests.tasks.diffusion.data.test_data import write_folder


def read(tmp_path, text):
    file = tmp_path / "table.csv"
    file.write_text(text, encoding="utf-8")
    return read_csv(file)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_is_written_is_read(tmp_path, delimiter):
    rows = [{"a": "1, 2; 3\t4", "b": 'say "x"'}, {"a": "two\nlines", "b": "é"}]
    content = io.StringIO()
    writer = csv.DictWriter(content, ["a", "b"], delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    assert read(tmp_path, content.getvalue()) == rows


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a,b\n1,2\n1,2, 3\n", "line 3 has 3 values, the header 2: put quotes around text that contains the delimiter"),
        ('a;b\n"x\ny";2\n1;2;3;4\n', "line 4 has 4 values, the header 2"),
        ('a;b\n1;2;"x\ny"\n', "line 2 has 3 values, the header 2"),
        ("a,b,a\n1,2,3\n", "the header has the column 'a' twice"),
        ("a, a\n1,2\n", "the header has the column 'a' twice"),
        ("", "it is empty"),
        ('a,b\n1,"2', "line 2: unexpected end of data"),
    ],
)
def test_a_table_that_would_be_misread_is_refused(tmp_path, text, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        read(tmp_path, text)


def test_what_spreadsheets_and_people_add_does_no_harm(tmp_path):
    text = 'a,b,,\n1, "2, 3",,\n4,,,\n\n,,,\n5\n'
    assert read(tmp_path, text) == [{"a": "1", "b": "2, 3"}, {"a": "4", "b": ""}, {"a": "5", "b": ""}]


def test_captions_with_unquoted_commas_are_refused(tmp_path):
    folder = write_folder(tmp_path / "p", 10)
    (folder / "metadata.jsonl").unlink()
    (folder / "metadata.csv").write_text("file_name,text\n0.png,a cat, sitting on a mat\n")
    with pytest.raises(TaskError, match="line 2 has 3 values, the header 2: put quotes around text") as refusal:
        Pokemon(data=str(folder)).content_digests()
    assert "\n" not in str(refusal.value)


def test_texts_with_unquoted_commas_are_refused(tmp_path):
    (tmp_path / "rows.csv").write_text('mr,ref\n"name[A], food[Thai]",Eat at A, it is good.\n')
    with pytest.raises(TaskError, match="line 2 has 3 values, the header 2: put quotes around text"):
        read_pairs(tmp_path / "rows.csv")


def test_a_json_array_must_contain_only_objects(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([{"a": 1}, 2]))
    with pytest.raises(ValueError, match="its array must contain only objects"):
        read_json_lines(tmp_path / "rows.json")


def test_every_broken_line_is_named(tmp_path):
    lines = ["{}", "{", "[]", "", '{"a": 1}', "nothing"]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"^line 2, column 2: .*; 2 more broken lines \(3, 6\)$"):
        read_json_lines(tmp_path / "rows.jsonl")
