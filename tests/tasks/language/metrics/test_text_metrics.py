"""Text metrics against hand-computed cases, and asymmetric ones (text and reference exchanged)."""

import math

import pytest

from tasks.language.metrics.bleu import BLEU, bleu
from tasks.language.metrics.coco_captions import CIDER, METEOR, ROUGE_L, cider, meteor, rouge_l
from tasks.language.metrics.intervals import bootstrap_interval
from tasks.language.metrics.nist import NIST, nist
from tasks.language.metrics.text_metric import text_figures, tokenized

METRICS = (BLEU, NIST, METEOR, ROUGE_L, CIDER)
HYPOTHESIS, REFERENCE = "the cat sat on the mat", "the cat sat on the red mat today"


def test_tokenization():
    assert tokenized("It's £20-25, near The Mill.") == "it's £20 - 25 , near the mill ."


def test_bleu_by_hand():
    # 1-grams 6/6, 2-grams 4/5, 3-grams 3/4, 4-grams 2/3; brevity exp(1 - 8/6)
    expected = 100 * math.exp(1 - 8 / 6) * (1 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert bleu([HYPOTHESIS], [[REFERENCE]]).value == pytest.approx(expected)


def test_bleu_is_not_symmetric():
    # 6/8, 4/7, 3/6, 2/5 and no brevity penalty
    expected = 100 * (6 / 8 * 4 / 7 * 3 / 6 * 2 / 5) ** 0.25
    assert bleu([REFERENCE], [[HYPOTHESIS]]).value == pytest.approx(expected)


def test_corpus_bleu_equals_sacrebleus():
    from sacrebleu import corpus_bleu

    texts = [HYPOTHESIS, "a dog barks at night here", "it rains"]
    references = [[REFERENCE, "a cat sat there"], ["a dog barks at the moon", "dogs bark"], ["it rains", "rain"]]
    whole = corpus_bleu(texts, [list(of) for of in zip(*references, strict=True)], tokenize="none", force=True)
    score = bleu(texts, references)
    assert score.value == pytest.approx(whole.score)
    assert score.low is not None
    assert score.high is not None
    assert score.low <= score.value <= score.high


def test_nist_by_hand():
    # one reference of five different words: unigrams carry log2(5) bits each, longer n-grams log2(1/1) = 0
    words = "a b c d e"
    assert nist([words], [[words]]).value == pytest.approx(math.log2(5))


def test_nist_is_not_symmetric():
    # the text lacks one in five of the words: no 5-gram matches, and the length penalty applies
    short, long = "a b c d x", "a b c d x y z v w"
    one, other = (nist([text], [[of]]).value for text, of in ((short, long), (long, short)))
    # nine words: log2(9) bits each, penalty by 5/9; five of nine unigrams: 5/9 log2(5) bits, no penalty
    beta = math.log(0.5) / math.log(1.5) ** 2
    assert one == pytest.approx(math.log2(9) * math.exp(beta * math.log(5 / 9) ** 2))
    assert other == pytest.approx(5 / 9 * math.log2(5))


def test_nist_of_texts_without_a_5_gram_is_zero():
    assert nist(["a b", ""], [["a b"], ["c"]]).value == 0


def rouge_of(precision: float, recall: float) -> float:
    return 100 * (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def test_rouge_l_by_hand_in_both_directions():
    assert rouge_l([HYPOTHESIS], [[REFERENCE]]).value == pytest.approx(rouge_of(6 / 6, 6 / 8))
    assert rouge_l([REFERENCE], [[HYPOTHESIS]]).value == pytest.approx(rouge_of(6 / 8, 6 / 6))


def test_cider_by_hand():
    # two items that share nothing: an exact text scores 10 (all four n-gram lengths match), a wrong one 0
    references = [["a b c d e"], ["v w x y z"]]
    score = cider(["a b c d e", "p q r s t"], references)
    assert score is not None
    assert score.per_item == pytest.approx([10, 0])
    assert score.value == pytest.approx(5)


def test_cider_is_not_symmetric():
    one = cider(["a b", "x y"], [["a b", "a c"], ["x y"]])
    other = cider(["a b", "x y"], [["a b"], ["x y"]])
    assert one is not None
    assert other is not None
    # 1- and 2-grams alone: (1 + 1) / 4 * 10 = 5; with a second reference half of (1 + 1) + (1/2 + 0)
    assert other.per_item is not None
    assert one.per_item is not None
    assert other.per_item[0] == pytest.approx(5)
    assert one.per_item[0] == pytest.approx((2 + 0.5) / 2 / 4 * 10)
    assert cider(["a"], [["a"]]) is None


@pytest.mark.slow
def test_meteor_with_java():
    same = meteor(["the cat sat", "it rains"], [["the cat sat"], ["it rains"]])
    if same is None:
        pytest.skip("METEOR needs Java and the jar in pycocoevalcap")
    assert same.per_item == pytest.approx([100, 100])
    one, other = (meteor([text], [[of]]) for text, of in ((HYPOTHESIS, REFERENCE), (REFERENCE, HYPOTHESIS)))
    assert one is not None
    assert other is not None
    assert other.value > one.value  # recall counts more than precision


def test_meteor_is_left_out_without_java():
    assert meteor(["a"], [["a"]]) is None
    assert "meteor" not in text_figures(METRICS, ["a b", "c"], [["a b"], ["c"]])[0]


def test_empty_texts_score_zero():
    figures, items = text_figures(METRICS, ["", ""], [["the cat sat"], ["it rains"]])
    assert figures["bleu"].value == 0
    assert figures["rouge_l"].value == 0
    assert items["cider"] == [0, 0]


def test_the_bootstrap_interval_of_a_mean():
    import numpy as np

    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = bootstrap_interval(lambda chosen: float(values[chosen].mean()), 400)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert bootstrap_interval(lambda chosen: 0.0, 1) == (None, None)
