"""Memory of a loss over a large vocabulary: counted in the training loop, predicted, and smaller by chunks."""

import json
from dataclasses import replace

import pytest

from experiments.measure.memory.prediction import predict, predict_training
from experiments.measure.memory.validation import RandomWeights, measure_peak
from experiments.precision import stored_in
from tasks.language.style import Style
from tests.experiments.measure.test_memory import SHAPE, TOKENS, configuration

ROWS, VOCABULARY = 4 * 47, 20_000
LOGITS = 4 * ROWS * VOCABULARY  # bytes in fp32


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Style:
    """Rows of 48 tokens on a tiny GPT-2 whose logits are larger than all else."""
    folder = tmp_path_factory.mktemp("shape")
    (folder / "config.json").write_text(json.dumps(SHAPE | TOKENS | {"vocab_size": VOCABULARY}))
    return Style(base=str(folder), max_length=48)


@pytest.mark.parametrize("precision", ["no", "bf16"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_prediction_matches_the_training_loop(task, method, precision):
    chunked = replace(task, logits_at_once=20 * VOCABULARY)
    peaks = {}
    for each in (task, chunked):
        config = configuration(each, method, mixed_precision=precision)
        measured = measure_peak(config, RandomWeights(each.meta_model(), stored_in(config.task)))
        predicted = predict_training(config).peak
        assert predicted == pytest.approx(measured.peak, rel=0.05)
        assert predicted == pytest.approx(measured.profiler_peak, rel=0.05)
        peaks[each.logits_at_once] = measured.peak
    # all logits, their logarithms or their gradients: at least two of these are alive together otherwise
    assert peaks[task.logits_at_once] - peaks[chunked.logits_at_once] > 1.7 * LOGITS


def test_an_evaluation_computes_its_likelihoods_in_chunks_too(task):
    peaks = []
    for at_once in (task.logits_at_once, 20 * VOCABULARY):
        config = configuration(replace(task, logits_at_once=at_once))
        evaluation = next(phase for phase in predict(config).phases if phase.name.startswith("likelihood"))
        peaks.append(evaluation.peak)
    assert peaks[0] - peaks[1] > 4 * LOGITS  # 16 rows instead of a batch of 4
