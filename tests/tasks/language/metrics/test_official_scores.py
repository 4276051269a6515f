"""Our scores of three sets of texts equal those of the E2E challenge's own scorer."""

import json
from pathlib import Path

import pytest

from tasks.language.metrics.bleu import bleu
from tasks.language.metrics.coco_captions import cider, rouge_l
from tasks.language.metrics.meteor import meteor
from tasks.language.metrics.nist import nist
from tasks.language.metrics.text_metric import Corpus, Score

ROOT = Path(__file__).parents[4]
SCORES = ROOT.parent / "shared" / "data" / "e2e_scores"
SYSTEMS = ("human", "template", "shuffled")
pytestmark = pytest.mark.skipif(not SCORES.is_dir(), reason=f"needs the official scorer's figures in {SCORES}")


def corpus(system: str) -> Corpus:
    blocks = (SCORES / "references.txt").read_text(encoding="utf-8").strip("\n").split("\n\n")
    texts = (SCORES / f"{system}.txt").read_text(encoding="utf-8").splitlines()
    return Corpus(texts, [block.splitlines() for block in blocks])


def value(score: Score | None) -> float:
    assert score is not None
    return score.value


def official(system: str, name: str) -> float:
    return json.loads((SCORES / "official.json").read_text())[system][name]


@pytest.mark.parametrize("system", SYSTEMS)
def test_bleu_and_nist(system):
    assert bleu(corpus(system)).value / 100 == pytest.approx(official(system, "BLEU"), abs=1e-3)
    assert nist(corpus(system)).value == pytest.approx(official(system, "NIST"), abs=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
def test_rouge_l_and_cider(system, java):
    assert value(rouge_l(corpus(system))) / 100 == pytest.approx(official(system, "ROUGE_L"), abs=1e-3)
    assert value(cider(corpus(system))) == pytest.approx(official(system, "CIDEr"), abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_meteor(system, java):
    assert value(meteor(corpus(system))) / 100 == pytest.approx(official(system, "METEOR"), abs=1e-3)
