"""Metrics of the evaluate library: from local folders, without a hub; and our scorer as such a module."""

from pathlib import Path

import pytest
import torch

from adapters import Lora
from experiments import run
from tasks.errors import TaskError
from tasks.language.e2e import EndToEnd
from tasks.language.metrics import e2e_scores
from tasks.language.metrics.evaluate_metric import load_metrics
from tasks.language.metrics.text_metric import Corpus
from tests.tasks.language.metrics.test_official_scores import SCORES, corpus, official

SCRIPT = """
import datasets
import evaluate


class Module(evaluate.Metric):
    def _info(self):
        text = datasets.Value("string")
        features = datasets.Features({{"predictions": text, "references": {references}}})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references{arguments}):
        {body}
"""
ONE, SEVERAL = "text", "datasets.Sequence(text)"
pytestmark = pytest.mark.usefixtures("evaluate_cache")
TEXTS = Corpus(["a b c", "d e"], [["a b", "a x c"], ["d e"]])


def module(folder: Path, body: str, references: str = SEVERAL, arguments: str = "") -> str:
    folder.mkdir()
    script = SCRIPT.format(body=body, references=references, arguments=arguments)
    (folder / f"{folder.name}.py").write_text(script)
    return str(folder)


def values(name: str) -> dict[str, float]:
    scores = {metric.name: metric.score(TEXTS) for metric in load_metrics([name])}
    return {name: score.value for name, score in scores.items() if score is not None}


@pytest.mark.parametrize(
    ("name", "references", "body", "expected"),
    [
        ("number", ONE, "return sum(p == r for p, r in zip(predictions, references)) / 2", {"number": 0.5}),
        ("exact", SEVERAL, "return {'exact': len(references[0]), 'other': 3}", {"exact": 2}),
        ("chrf", SEVERAL, "return {'score': 60.5, 'char_order': 6}", {"chrf": 60.5}),
        ("two", ONE, "return {'p': 1, 'r': [0.5] * len(predictions), 'id': 'x'}", {"two_p": 1, "two_r": 0.5}),
    ],
)
def test_the_result_is_one_figure_or_one_a_number(tmp_path, name, references, body, expected):
    assert values(module(tmp_path / name, body, references)) == expected


def test_the_direction_is_that_of_texts_equal_to_their_references(tmp_path):
    same = "sum(p in r for p, r in zip(predictions, references))"
    body = f"same = {same}; return {{'accuracy': same, 'errors': len(predictions) - same}}"
    better = {metric.name: metric.better for metric in load_metrics([module(tmp_path / "my_metric", body)])}
    assert better == {"my_metric_accuracy": "higher", "my_metric_errors": "lower"}


def test_scores_of_the_texts_are_columns_of_the_items(tmp_path):
    (metric,) = load_metrics([module(tmp_path / "lengths", "return {'scores': [len(p) for p in predictions]}")])
    score = metric.score(TEXTS)
    assert score is not None
    assert score.columns(metric.name) == {"lengths": [5, 3]}
    assert score.value == 4


def test_a_metric_that_wants_equally_many_references_gets_them(tmp_path):
    body = "assert len({len(r) for r in references}) == 1; return len(references[1])"
    assert values(module(tmp_path / "even", body)) == {"even": 2}


def test_a_metric_that_asks_for_the_language_gets_english(tmp_path):
    body = "assert lang == 'en'; return 1.0"
    assert values(module(tmp_path / "asks", body, arguments=", lang=None")) == {"asks": 1.0}


def test_a_changed_script_is_another_metric(tmp_path):
    name = module(tmp_path / "versions", "return 1.0")
    (before,) = load_metrics([name])
    script = tmp_path / "versions" / "versions.py"
    script.write_text(script.read_text().replace("return 1.0", "return 2.0"))
    (after,) = load_metrics([name])
    assert before.implementation() != after.implementation()
    assert values(name) == {"versions": 2.0}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("chrf", "needs a network the first time"),
        ("./nowhere", "has no module script 'nowhere/nowhere.py'"),
        ("failing", r"failed on texts and references \(no luck\)"),
        ("silent", "gives no number"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_base_is_loaded(tmp_path, monkeypatch, name, expected):
    monkeypatch.chdir(tmp_path)
    module(tmp_path / "failing", "raise ValueError('no luck')")
    module(tmp_path / "silent", "return {'text': 'none'}")
    task = EndToEnd(base="no/such/base", extra_metrics=(name,))
    with pytest.raises(TaskError, match=expected) as caught:
        task.prepare(torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_a_run_with_a_metric_that_cannot_be_loaded_leaves_no_folder(tmp_path):
    with pytest.raises(TaskError, match="has no module script"):
        run(Lora(), EndToEnd(extra_metrics=("./nowhere",)), runs=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_metric_that_the_task_has_is_refused(tmp_path):
    with pytest.raises(TaskError, match="adds bleu, which is measured already"):
        EndToEnd(extra_metrics=(module(tmp_path / "bleu", "return 1.0"),)).all_metrics()


def test_a_run_measures_a_local_metric_with_its_ceiling(tmp_path, tiny_base):
    """Exact matches with a reference: perfect references repeat themselves rarely, a random model never."""
    name = module(tmp_path / "words", "return {'scores': [len(set(p.split()) & set(r[0].split())) for p, r in "
                  "zip(predictions, references)]}")  # fmt: skip
    task = EndToEnd(
        base=tiny_base, train_items=12, test_items=3, drift_items=2, max_new_tokens=3, extra_metrics=(name,)
    )
    prepared = task.prepare(torch.device("cpu"))
    evaluation = prepared.evaluate()
    figure = evaluation.figures["words"]
    assert figure.ceiling is not None
    assert figure.ceiling > figure.value
    assert figure.value == pytest.approx(sum(row["words"] for row in evaluation.items) / 3)
    assert task.all_metrics()["words"].better == "higher"
    assert "words" in str(prepared.evaluation_key["metrics"])


@pytest.mark.skipif(not SCORES.is_dir(), reason=f"needs the official scorer's figures in {SCORES}")
def test_our_scorer_as_a_module_equals_the_official_one():
    import evaluate

    template = corpus("template")
    scorer = evaluate.load(e2e_scores.__path__[0], keep_in_memory=True)
    scores = scorer.compute(predictions=list(template.texts), references=list(template.references))
    assert scores is not None
    assert scores["bleu"] / 100 == pytest.approx(official("template", "BLEU"), abs=1e-3)
    assert scores["nist"] == pytest.approx(official("template", "NIST"), abs=1e-3)
    assert scores.keys() == {"bleu", "nist", "rouge_l_13a", "cider_13a"}  # these tests run without Java
