"""Penn Treebank tokens without punctuation, as in the evaluation of COCO captions, from Stanford's tokenizer (Java)."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.language.metrics.java import jar_beside, run_java

_known: dict[str, str] = {}  # tokens by text: base and tuned evaluation share the references


def ptb_tokens(texts: Iterable[str]) -> dict[str, str] | None:
    """Lower-case tokens of each text, separated by single spaces; None without Java."""
    from pycocoevalcap.tokenizer.ptbtokenizer import STANFORD_CORENLP_3_4_1_JAR, PTBTokenizer

    jar = jar_beside(PTBTokenizer, STANFORD_CORENLP_3_4_1_JAR)
    if jar is None:
        return None
    texts = set(texts)
    new = sorted(text for text in texts - _known.keys() if text.strip())
    lines = [" ".join(text.split()) for text in new]  # one line a text
    words = ("-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase")
    tokenized = run_java(words, "".join(f"{line}\n" for line in lines)) if lines else ""
    if tokenized is None or tokenized.count("\n") != len(new):
        return None  # Java is installed but cannot run the jar
    _known.update(zip(new, map(_without_punctuation, tokenized.split("\n")), strict=False))
    return {text: _known.get(text, "") for text in texts}


def _without_punctuation(tokens: str) -> str:
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    return " ".join(token for token in tokens.split() if token not in PUNCTUATIONS)
