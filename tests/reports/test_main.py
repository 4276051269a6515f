"""The command line of `python -m reports`: help, errors, and nothing heavy imported before it is needed."""

from __future__ import annotations

import subprocess
import sys

import pytest

from reports.__main__ import COMMANDS, main
from tests.reports.synthetic import record, write


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_exits_with_status_0(words, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code in (0, None)
    text = capsys.readouterr().out
    assert f"usage: python -m reports {'COMMAND' if words == ['--help'] else words[0]}" in text
    if words == ["--help"]:
        assert [name for name in COMMANDS if f"  {name} " not in text] == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "expected a COMMAND: table, page, plots"),
        (["tabel"], "unknown command 'tabel' (did you mean 'table'?)"),
        (["table"], "TASK"),
        (["table", "drawings", "--format", "html"], "html"),
        (["table", "drawings", "--seeds", "3"], "unknown option '--seeds'"),
        (["compare", "runs/a"], "RUN"),
    ],
)
def test_a_wrong_command_line_is_one_sentence_with_status_2(words, sentence, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_an_error_of_a_report_ends_the_program_like_a_wrong_command_line(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "reports", "table", "drawings", "--runs", str(tmp_path)], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", ["--output", "--output-dir", "-o"])
def test_a_command_writes_where_output_says(tmp_path, capsys, option):
    write(tmp_path / "runs", record())
    main(["page", "--runs", str(tmp_path / "runs"), option, str(tmp_path / "there")])
    assert capsys.readouterr().out.strip() == str(tmp_path / "there" / "index.html")


def test_help_imports_nothing_heavy():
    program = (
        "import sys; from reports.__main__ import main\ntry:\n    main(['table', '--help'])\nexcept SystemExit: pass\n"
    )
    program += "heavy = {'torch', 'pandas', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
    program += "assert not heavy, heavy"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
