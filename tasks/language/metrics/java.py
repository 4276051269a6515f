"""Run the Java programs that pycocoevalcap carries: the Penn Treebank tokenizer and METEOR."""

from __future__ import annotations

import inspect
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PACKAGE = "pycocoevalcap"
UTF_8 = ("-Dfile.encoding=UTF-8", "-Dstdout.encoding=UTF-8")  # else the locale decides
# A program of a few seconds gains nothing from optimizing compilation and parallel collection, which take most of its
# time on a busy machine (METEOR on 200 texts: 16 s, and 2 s with these).
QUICK = ("-XX:+IgnoreUnrecognizedVMOptions", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")


def jar_beside(cls: type, name: str) -> Path | None:
    """The jar in the folder of a class of pycocoevalcap; None without it or without Java."""
    jar = Path(inspect.getfile(cls)).parent / name
    return jar if shutil.which("java") and jar.is_file() else None


def java(*words: str | Path) -> list[str]:
    """The command of a Java program."""
    return ["java", *UTF_8, *QUICK, *map(str, words)]


def run_java(words: Sequence[str | Path], text: str = "") -> str | None:
    """What a Java program prints when it reads `text`; None if it fails."""
    try:
        ended = subprocess.run(java(*words), input=text.encode(), capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return ended.stdout.decode()
