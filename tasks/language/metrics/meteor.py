"""METEOR 1.5 (Denkowski and Lavie 2014): its own Java program, which pycocoevalcap carries."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock

from tasks.atomic import replacing
from tasks.cache import cache_folder, digest
from tasks.language.metrics.coco_captions import by_index
from tasks.language.metrics.java import PACKAGE, jar_beside, java, run_java
from tasks.language.metrics.text_metric import Corpus, Score, TextMetric

OPTIONS = ("-", "-", "-stdio", "-l", "en", "-norm")
MEMORY = "-Xmx2G"


def meteor(corpus: Corpus) -> Score | None:
    """METEOR, in per cent; None without Java or the package's jar.

    The program aggregates the value over the corpus; the interval is that of the texts' mean, shifted to the value.
    """
    import numpy as np

    jar, tokens = _jar(), corpus.ptb
    if jar is None or tokens is None:
        return None
    try:
        with _scorer(jar, _paraphrases(jar, tokens)) as scorer:
            value, each = scorer.compute_score(*by_index(tokens))
    except (OSError, ValueError):  # Java is installed but cannot run the jar, which then answers nothing
        return None
    scores = 100 * np.asarray(each)
    shift = 100 * value - scores.mean()
    extractor = f"{PACKAGE} {version(PACKAGE)} METEOR 1.5, PTB tokens without punctuation"
    return Score(100 * value, extractor, lambda chosen: float(scores[chosen].mean() + shift), scores.tolist())


def _jar() -> Path | None:
    from pycocoevalcap.meteor.meteor import METEOR_JAR, Meteor

    return jar_beside(Meteor, METEOR_JAR)


@contextlib.contextmanager
def _scorer(jar: Path, paraphrases: Path) -> Iterator:
    """pycocoevalcap's scorer with a Java process that reads these paraphrases."""
    from pycocoevalcap.meteor.meteor import Meteor

    class Scorer(Meteor):
        def __init__(self) -> None:
            command = java(MEMORY, "-jar", jar, *OPTIONS, "-a", paraphrases)
            pipe = subprocess.PIPE
            self.meteor_p = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)
            self.lock = Lock()

    scorer = Scorer()
    try:
        yield scorer
    finally:
        if scorer.lock.locked():
            scorer.lock.release()  # its destructor would wait for it forever
        if scorer.meteor_p.stdout is not None:
            scorer.meteor_p.stdout.close()


def _paraphrases(jar: Path, tokens: Corpus) -> Path:
    """METEOR's paraphrases of the references alone: the whole table (5 million) takes ten seconds and a gigabyte.

    Cached; the whole table if METEOR's own filter fails.
    """
    table = jar.parent / "data" / "paraphrase-en.gz"
    lines = "\n".join(sorted({reference for of_text in tokens.references for reference in of_text}))
    key = f"{PACKAGE} {version(PACKAGE)}\n{lines}"
    file = cache_folder() / "meteor-paraphrases" / f"{digest(key.encode())}.gz"
    if file.is_file():
        return file
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary, TemporaryDirectory() as folder:
            references = Path(folder) / "references.txt"
            references.write_text(lines, encoding="utf-8")
            if run_java((MEMORY, "-cp", jar, "FilterParaphrase", table, temporary, references)) is None:
                raise OSError("FilterParaphrase failed")
    return file if file.is_file() else table


METEOR = TextMetric(
    "meteor",
    "higher",
    "%",
    "words, stems and synonyms shared with a reference (METEOR)",
    (PACKAGE, "java"),
    version=2,
    score=meteor,
)
