"""Wrong input to the maintainers' commands ends in one sentence."""

import sys

import pytest

from tasks.bundled import build
from tasks.pretrained.published import write


@pytest.mark.parametrize(
    ("module", "words", "message"),
    [
        (build, ["scheduler"], "not 'scheduler'"),
        (build, [], "missing required arguments: PART"),
        (build, ["vae", "--wrok", "x"], "--wrok"),
        (build, ["unet", "--target", "nowhere"], "unet needs text-encoder and vae in nowhere: build them"),
        (write, ["gpt3", "x"], "unknown base 'gpt3'"),
        (write, ["gpt2", "x", "--seed", "one"], "--seed must be an integer, not 'one'"),
        (write, ["gpt2", __file__], "is a file; expected a folder"),
    ],
)
def test_wrong_input_is_one_sentence(module, words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", *words])
    with pytest.raises(SystemExit) as stopped:
        module.main()
    printed = capsys.readouterr().err
    assert stopped.value.code == 2
    assert printed.startswith("error: ")
    assert message in printed
    assert printed.count("\n") == 1
