"""Text metrics against hand-computed cases and other implementations; asymmetric cases exchange text and reference."""

import math
from random import Random

import numpy as np
import pytest

from tasks.bootstrap import bootstrap_interval
from tasks.language.metrics.bleu import BLEU, bleu
from tasks.language.metrics.coco_captions import CIDER, CIDER_13A, ROUGE_L, ROUGE_L_13A, cider_13a, rouge_l, rouge_l_13a
from tasks.language.metrics.meteor import METEOR, meteor
from tasks.language.metrics.nist import NIST, nist
from tasks.language.metrics.ptb_tokenizer import ptb_tokens
from tasks.language.metrics.text_figures import leave_one_out, text_figures
from tasks.language.metrics.text_metric import Corpus, Score

METRICS = (BLEU, NIST, METEOR, ROUGE_L, CIDER, ROUGE_L_13A, CIDER_13A)
HYPOTHESIS, REFERENCE = "the cat sat on the mat", "the cat sat on the red mat today"
WORDS = ["the", "mill", "serves", "cheap", "thai", "food", "near", "a", "river", "."]


def one(text: str, *references: str) -> Corpus:
    return Corpus([text], [list(references)])


def scored(score: Score | None) -> Score:
    assert score is not None
    return score


def random_corpus(references: int, items: int = 30) -> Corpus:
    rng = Random(0)

    def text() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(6, 14)))

    return Corpus([text() for _ in range(items)], [[text() for _ in range(references)] for _ in range(items)])


def test_tokens_of_mteval():
    assert one("It's £20-25, near The Mill.").mteval.texts == ["it's £20 - 25 , near the mill ."]


def test_tokens_of_the_penn_treebank(java):
    texts = ["It's £20-25, near The\u2028Mill.", "", "one\ntwo", " "]
    assert ptb_tokens(texts) == dict(zip(texts, ["it 's # 20-25 near the mill", "", "one two", ""], strict=True))


def test_bleu_by_hand():
    # 1-grams 6/6, 2-grams 4/5, 3-grams 3/4, 4-grams 2/3; brevity exp(1 - 8/6)
    expected = 100 * math.exp(1 - 8 / 6) * (1 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25
    assert bleu(one(HYPOTHESIS, REFERENCE)).value == pytest.approx(expected)


def test_bleu_is_not_symmetric():
    # 6/8, 4/7, 3/6, 2/5 and no brevity penalty
    expected = 100 * (6 / 8 * 4 / 7 * 3 / 6 * 2 / 5) ** 0.25
    assert bleu(one(REFERENCE, HYPOTHESIS)).value == pytest.approx(expected)


def test_corpus_bleu_equals_sacrebleus():
    from sacrebleu import corpus_bleu

    texts = [HYPOTHESIS, "a dog barks at night here", "it rains"]
    references = [[REFERENCE, "a cat sat there"], ["a dog barks at the moon", "dogs bark"], ["it rains", "rain"]]
    whole = corpus_bleu(texts, [list(of) for of in zip(*references, strict=True)], tokenize="none", force=True)
    assert bleu(Corpus(texts, references)).value == pytest.approx(whole.score)


def test_nist_by_hand():
    # one reference of five different words: unigrams carry log2(5) bits each, longer n-grams log2(1/1) = 0
    words = "a b c d e"
    assert nist(one(words, words)).value == pytest.approx(math.log2(5))


def test_nist_is_not_symmetric():
    # the text lacks one in five of the words: no 5-gram matches, and the length penalty applies
    short, long = "a b c d x", "a b c d x y z v w"
    # nine words: log2(9) bits each, penalty by 5/9; five of nine unigrams: 5/9 log2(5) bits, no penalty
    beta = math.log(0.5) / math.log(1.5) ** 2
    assert nist(one(short, long)).value == pytest.approx(math.log2(9) * math.exp(beta * math.log(5 / 9) ** 2))
    assert nist(one(long, short)).value == pytest.approx(5 / 9 * math.log2(5))


def test_nist_equals_nltks_with_one_reference():
    from nltk.translate.nist_score import corpus_nist

    corpus = random_corpus(references=1)
    hypotheses = [text.split() for text in corpus.texts]
    references = [[reference.split() for reference in of] for of in corpus.references]
    assert nist(corpus).value == pytest.approx(corpus_nist(references, hypotheses, 5))


def test_nist_counts_an_n_gram_in_any_reference():
    # each word is in one of the two references: a best single reference (nltk) would have half of them
    assert nist(one("a b", "a x", "b y")).value == pytest.approx(2.0)  # two unigrams of log2(4) bits over two words


def test_nist_of_texts_without_words_is_zero():
    assert nist(Corpus(["", ""], [["a b"], ["c"]])).value == 0


@pytest.mark.parametrize("score", [bleu, nist])
def test_the_statistics_of_the_items_give_the_value_of_any_part_of_the_corpus(score):
    corpus = random_corpus(references=3)
    whole = score(corpus)
    assert whole.resampled(np.arange(30)) == pytest.approx(whole.value)
    assert np.shape(whole.statistics) == (30, 10 if score is bleu else 12)
    if score is bleu:
        part = [3, 3, 17, 8]
        again = bleu(Corpus([corpus.texts[i] for i in part], [corpus.references[i] for i in part]))
        assert whole.resampled(np.array(part)) == pytest.approx(again.value)


def rouge_of(precision: float, recall: float) -> float:
    return 100 * (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)


def test_rouge_l_by_hand_in_both_directions():
    assert scored(rouge_l_13a(one(HYPOTHESIS, REFERENCE))).value == pytest.approx(rouge_of(6 / 6, 6 / 8))
    assert scored(rouge_l_13a(one(REFERENCE, HYPOTHESIS))).value == pytest.approx(rouge_of(6 / 8, 6 / 6))


def test_cider_by_hand():
    # two items that share nothing: an exact text scores 10 (all four n-gram lengths match), a wrong one 0
    score = scored(cider_13a(Corpus(["a b c d e", "p q r s t"], [["a b c d e"], ["v w x y z"]])))
    assert score.per_item == pytest.approx([10, 0])
    assert score.value == pytest.approx(5)


def test_cider_is_not_symmetric():
    two = scored(cider_13a(Corpus(["a b", "x y"], [["a b", "a c"], ["x y"]])))
    single = scored(cider_13a(Corpus(["a b", "x y"], [["a b"], ["x y"]])))
    # 1- and 2-grams alone: (1 + 1) / 4 * 10 = 5; with a second reference half of (1 + 1) + (1/2 + 0)
    assert single.per_item is not None
    assert two.per_item is not None
    assert single.per_item[0] == pytest.approx(5)
    assert two.per_item[0] == pytest.approx((2 + 0.5) / 2 / 4 * 10)
    assert cider_13a(one("a", "a")) is None


@pytest.mark.slow
def test_meteor(java):
    texts = ["the cat sat", HYPOTHESIS, REFERENCE, "", "it ||| rains"]
    references = [["the cat sat"], [REFERENCE], [HYPOTHESIS], ["the cat sat"], ["it ||| rains", "!"]]
    each = scored(meteor(Corpus(texts, references))).per_item
    assert each is not None
    assert [each[0], *each[3:]] == pytest.approx([100, 0, 100])
    assert each[2] > each[1]  # recall counts more than precision


def test_without_java_other_tokens_have_other_names():
    figures, columns = text_figures(METRICS, Corpus(["a b", "c"], [["a b"], ["c"]]))
    assert figures.keys() == {"bleu", "nist", "rouge_l_13a", "cider_13a"}
    assert columns.keys() == {"bleu_statistics", "nist_statistics", "rouge_l_13a", "cider_13a"}


def test_with_java_there_is_only_the_official_name(java):
    corpus = Corpus(["a b .", "c"], [["a b"], ["c"]])
    assert rouge_l_13a(corpus) is None
    assert scored(rouge_l(corpus)).value == pytest.approx(100)  # punctuation does not count


def test_empty_texts_score_zero():
    figures, items = text_figures(METRICS, Corpus(["", ""], [["the cat sat"], ["it rains"]]))
    assert figures["bleu"].value == 0
    assert figures["rouge_l_13a"].value == 0
    assert items["cider_13a"] == [0, 0]


def test_the_ceiling_is_a_kept_reference_against_the_others():
    references = [["a b c d", "a b c e"], ["x y z", "x y z"], ["alone"]]
    corpus = leave_one_out(references)
    assert sorted(zip(corpus.texts, map(tuple, corpus.references), strict=True))[::2] == [
        ("a b c d", ("a b c e",)),
        ("a b c e", ("a b c d",)),
        ("x y z", ("x y z",)),
        ("x y z", ("x y z",)),
    ]
    texts = ["a", "x", "alone"]
    figures, _ = text_figures(METRICS, Corpus(texts, references))
    for name, figure in figures.items():
        expected = next(scored(metric.score(corpus)).value for metric in METRICS if metric.name == name)
        assert figure.ceiling == pytest.approx(expected), name
    figures, _ = text_figures(METRICS, Corpus(texts, [["a"], ["x"], ["alone"]]))
    assert all(figure.ceiling is None for figure in figures.values())


def test_the_bootstrap_interval_of_a_mean():
    values = np.random.default_rng(1).normal(3, 2, size=400)
    low, high = bootstrap_interval(lambda chosen: float(values[chosen].mean()), 400)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert bootstrap_interval(lambda chosen: 0.0, 1) == (None, None)
