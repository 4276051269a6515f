"""Metrics of the evaluate library on a task's texts: by name from the hub, or from a folder with a module script."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import version
from numbers import Real
from pathlib import Path
from typing import Any

from tasks.errors import TaskError, first_line
from tasks.file_digests import file_digest
from tasks.language.metrics.text_metric import Corpus, Score, TextMetric

OPTION = "--task.extra-metrics"
PROBES = ("The Mill serves Thai food.", "A pub near the river has low prices.", "Families like this coffee shop.")
MAIN_RESULTS = ("score", "scores")  # names of the result among a module's other outputs


@dataclass(frozen=True)
class EvaluateMetric(TextMetric):
    """One number of a module's output; `script` identifies the module's code."""

    script: str = field(kw_only=True)

    def implementation(self) -> list[Any]:
        return [*super().implementation(), self.script]


def load_metrics(names: Sequence[str]) -> list[TextMetric]:
    """The metrics of these modules. Raises TaskError if one cannot be loaded or cannot compare texts."""
    return [metric for name in names for metric in _metrics(name, _local_digest(name))]


def _script(name: str) -> Path:
    """Where the script of a local module is expected: it has its folder's name."""
    path = Path(name).expanduser()
    return path if path.suffix == ".py" else path / f"{path.resolve().name}.py"


def _local_digest(name: str) -> str | None:
    script = _script(name)
    return file_digest(script) if script.is_file() else None


@cache
def _metrics(name: str, _: str | None) -> list[TextMetric]:
    """The metrics of one module, loaded again if its script changes.

    A metric is better in the direction in which texts score that equal their references.
    """
    module = _Module(name)
    references = (PROBES, PROBES[1:] + PROBES[:1])
    equal, other = (module.results(Corpus(PROBES, [[text] for text in texts])) for texts in references)
    if not equal:
        raise TaskError(f"{OPTION} '{name}' gives no number for texts and references: use another metric")
    return [
        EvaluateMetric(
            label,
            "higher" if _mean(equal[label]) >= _mean(other.get(label, math.nan)) else "lower",
            "",
            f"{label} of the evaluate library",
            ("evaluate",),
            score=partial(_score, module, label),
            script=module.script,
        )
        for label in equal
    ]


def _score(module: _Module, label: str, corpus: Corpus) -> Score | None:
    import numpy as np

    result = module.results(corpus).get(label)
    if result is None:
        return None
    if not isinstance(result, list):
        return Score(result, module.extractor)
    scores = np.asarray(result)
    return Score(_mean(result), module.extractor, lambda chosen: float(scores[chosen].mean()), result)


def _mean(result: float | list[float]) -> float:
    return sum(result) / len(result) if isinstance(result, list) else result


class _Module:
    """A loaded module, with its results for the last corpus: several metrics may come from one call."""

    def __init__(self, name: str):
        self.name = name
        self.module = _load(name)
        self.script = file_digest(Path(inspect.getfile(type(self.module))))
        self.extractor = f"evaluate {version('evaluate')} {name} (script {self.script[:8]})"
        self._last: tuple[Corpus, dict[str, float | list[float]]] | None = None

    def results(self, corpus: Corpus) -> dict[str, float | list[float]]:
        """Finite numbers, and lists of one number a text, by the name of their metric."""
        if self._last is None or self._last[0] is not corpus:
            try:
                output = self._compute(corpus)
            except Exception as error:  # modules raise whatever their libraries raise
                raise TaskError(
                    f"{OPTION} '{self.name}' failed on texts and references ({first_line(error)}): expected a metric "
                    "that takes predictions and references as texts, and nothing else"
                ) from error
            self._last = corpus, _by_label(_label(self.name), output, len(corpus.texts))
        return self._last[1]

    def _compute(self, corpus: Corpus) -> Any:
        try:
            return self._called(corpus.texts, corpus.references)
        except Exception:
            most = max(map(len, corpus.references))
            if all(len(of_text) == most for of_text in corpus.references):
                raise
            # sacrebleu's metrics want equally many references; a repeated one never wins twice
            filled = [[*of_text, *[of_text[-1]] * (most - len(of_text))] for of_text in corpus.references]
            return self._called(corpus.texts, filled)

    def _called(self, texts: Sequence[str], references: Sequence[Sequence[str]]) -> Any:
        several = _takes_several_references(self.module)
        english = {"lang": "en"} if "lang" in inspect.signature(self.module._compute).parameters else {}
        given = [list(of_text) if several else of_text[0] for of_text in references]
        return self.module.compute(predictions=list(texts), references=given, **english)


def _load(name: str) -> Any:
    import evaluate

    script = _script(name)
    if not script.is_file() and (Path(name).expanduser().is_dir() or name.startswith((".", "/", "~"))):
        raise TaskError(
            f"{OPTION} '{name}' has no module script '{script}': expected a folder of the evaluate library, whose "
            "script has the folder's name"
        )
    try:
        return evaluate.load(str(script) if script.is_file() else name, keep_in_memory=True, seed=0)
    except Exception as error:  # evaluate raises a dozen types for a missing module, package or network
        raise TaskError(
            f"{OPTION} '{name}' could not be loaded by the evaluate library ({first_line(error)}): expected a folder "
            "with a module script, or a metric of the hub, which needs a network the first time"
        ) from error


def _takes_several_references(module: Any) -> bool:
    import datasets

    alternatives = module.features if isinstance(module.features, list) else [module.features]
    return any(not isinstance(features.get("references"), datasets.Value) for features in alternatives)


def _by_label(label: str, output: Any, texts: int) -> dict[str, float | list[float]]:
    """The module's result under its own name if one stands out, else each number as NAME_RESULT."""
    if not isinstance(output, Mapping):
        output = {label: output}
    main = next((key for key in (label, *MAIN_RESULTS) if key in output), None)
    named = {label: output[main]} if main is not None else {f"{label}_{key}": value for key, value in output.items()}
    numbers = {name: _numbers(value, texts) for name, value in named.items()}
    return {name: value for name, value in numbers.items() if value is not None}


def _numbers(value: Any, texts: int) -> float | list[float] | None:
    """A finite number, a list of as many as there are texts, or None."""
    value = value.tolist() if hasattr(value, "tolist") else value  # numpy's or torch's
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if not isinstance(value, (list, tuple)):
        return None
    numbers = [float(each) for each in value if isinstance(each, Real) and math.isfinite(each)]
    return numbers if len(numbers) == len(value) == texts else None


def _label(name: str) -> str:
    return re.sub(r"\W", "_", _script(name).stem if _local_digest(name) else name.rsplit("/", 1)[-1])
