"""Peak memory: the tracker against a hand-computed case, predictions against two measurements of the training loop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adapters.base import adapter_registry
from adapters.interchange.exported_file import safetensors_size
from experiments.config import RunConfig, Train
from experiments.measure.file_sizes import adapter_files
from experiments.measure.memory.device_rules import CUDA
from experiments.measure.memory.phases import Assumptions
from experiments.measure.memory.prediction import predict, predict_training
from experiments.measure.memory.validation import RandomWeights, measure_peak
from experiments.precision import stored_in
from experiments.records.adapter_file import adapter_metadata
from experiments.training.memory_tracker import ACTIVATIONS, GRADIENTS, OPTIMIZER, TEMPORARIES, WEIGHTS, MemoryTracker
from tasks.base import Task
from tasks.language.style import Style

SHAPE = {"model_type": "gpt2", "vocab_size": 300, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4}
TOKENS = {"bos_token_id": 0, "eos_token_id": 0}


@pytest.fixture(scope="module")
def task(tmp_path_factory) -> Style:
    """Rows of 48 tokens on a tiny GPT-2 configuration without weights."""
    folder = tmp_path_factory.mktemp("shape")
    dropout = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.0}
    (folder / "config.json").write_text(json.dumps(SHAPE | TOKENS | dropout))
    return Style(base=str(folder), max_length=48)


def configuration(task: Task, method: str = "lora", **train) -> RunConfig:
    return RunConfig(adapter_registry()[method](), task, Train(device="cpu", **{"batch_size": 4, **train})).resolved()


def test_a_layer_and_adamw_by_hand():
    layer = nn.Linear(10, 10, bias=False)  # 400 bytes
    optimizer = torch.optim.AdamW(layer.parameters())
    tracker = MemoryTracker()
    tracker.watch(layer, optimizer)
    with tracker:
        batch = torch.ones(100, 10)  # 4,000 bytes; so has its output
        layer(batch).sum().backward()
        del batch
        optimizer.step()
    peak = tracker.peak
    assert peak[WEIGHTS] == 400
    assert peak[ACTIVATIONS] == 8000  # batch and output, both alive in the backward pass
    assert peak[TEMPORARIES] <= 4008  # the output's gradient, unless it is an expanded view of one number
    assert peak[OPTIMIZER] == 0
    tracker.events = [event for event in tracker.events if event[1].category != ACTIVATIONS]
    assert tracker.peak[OPTIMIZER] == 2 * 400 + 4  # both moments and the step count
    assert tracker.peak[GRADIENTS] == 400


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("method", ["lora", "full", "bottleneck", "prefix", "subspace"])
def test_the_prediction_matches_the_training_loop(task, method, checkpointing):
    config = configuration(task, method, gradient_checkpointing=checkpointing)
    predicted = predict_training(config).timeline.by_category()
    measured = measure_peak(config, RandomWeights(task.meta_model()))
    total = sum(predicted.values())
    assert total == pytest.approx(measured.peak, rel=0.02)
    assert total == pytest.approx(measured.profiler_peak, rel=0.05)
    for category, size in predicted.items():
        assert size == pytest.approx(measured.categories[category], abs=0.03 * total), category


@pytest.mark.parametrize("method", ["lora", "full", "bottleneck", "prefix", "subspace", "peft"])
def test_the_prediction_matches_in_bf16(task, method):
    """Frozen weights are halved, and the prediction has them so."""
    config = configuration(task, method, mixed_precision="bf16")
    stored = stored_in(config.task)
    measured = measure_peak(config, RandomWeights(task.meta_model(), stored))
    predicted = predict_training(config)
    assert predicted.peak == pytest.approx(measured.profiler_peak, rel=0.05)
    weights = predicted.timeline.by_category()[WEIGHTS]
    assert weights == pytest.approx(measured.categories[WEIGHTS], rel=0.05)
    in_fp32 = predict(configuration(replace(task, base_precision="fp32"), method, mixed_precision="bf16"))
    frozen = 4 * (in_fp32.total - in_fp32.trainable)
    assert in_fp32.training.timeline.by_category()[WEIGHTS] - weights == (frozen // 2 if stored == "bf16" else 0)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_states_of_the_8_bit_optimizer_are_predicted(task, method):
    pytest.importorskip("bitsandbytes")
    config = configuration(task, method, optimizer="adamw-8bit")
    predicted, measured = predict_training(config), measure_peak(config, RandomWeights(task.meta_model()))
    assert predicted.timeline.by_category()[OPTIMIZER] == measured.categories[OPTIMIZER]
    assert predicted.peak == pytest.approx(measured.profiler_peak, rel=0.02)


def test_a_prefix_leaves_fewer_tokens_to_the_rows(task):
    whole = replace(task, max_length=64)  # all positions of the model
    config = configuration(whole, "prefix")
    predicted, measured = predict_training(config).peak, measure_peak(config, RandomWeights(whole.meta_model()))
    assert predicted == pytest.approx(measured.profiler_peak, rel=0.05)


def test_accumulated_gradients_stay_alive_during_the_next_micro_batch(task):
    config = configuration(task, "full", gradient_accumulation_steps=2)
    measured = measure_peak(config, RandomWeights(task.meta_model()))
    assert predict_training(config).peak == pytest.approx(measured.profiler_peak, rel=0.05)
    assert predict_training(config).peak > predict_training(configuration(task, "full")).peak


def test_effect_of_each_setting(task):
    config = configuration(task)
    default = predict(config)
    plain = predict_training(config, Assumptions(fused_attention=False))
    assert plain.peak > default.training.peak
    checkpointed = replace(config, train=replace(config.train, gradient_checkpointing=True))
    assert predict_training(checkpointed).peak < default.training.peak
    frozen = 4 * (default.total - default.trainable)
    full_size, halved = (
        predict_training(
            configuration(replace(task, base_precision=precision), mixed_precision="bf16")
        ).timeline.by_category()[WEIGHTS]
        for precision in ("fp32", "bf16")
    )
    assert full_size - halved == frozen // 2


def test_only_cuda_adamw_copies_a_moment_of_every_weight_at_once(task):
    config = configuration(replace(task, max_length=4), "full", batch_size=1)
    trained = predict(config).trainable
    on_cpu, on_cuda = (
        predict_training(config, assumptions).timeline.by_category()[TEMPORARIES]
        for assumptions in (Assumptions(), Assumptions(CUDA))
    )
    assert on_cuda >= 4 * trained > 3 * on_cpu


def test_cuda_rules_apply_inside_recomputed_blocks(task):
    """Fused kernels draw dropout internally; plain attention would save its products for the backward pass."""
    folder = Path(task.base)
    settings = json.loads((folder / "config.json").read_text())
    peaks = []
    for share in (0.0, 0.1):
        (folder / "config.json").write_text(json.dumps(settings | {"attn_pdrop": share}))
        config = configuration(task, batch_size=1, gradient_checkpointing=True, mixed_precision="bf16")
        peaks.append(predict_training(config, Assumptions(CUDA)).peak)
    (folder / "config.json").write_text(json.dumps(settings))
    assert peaks[0] == peaks[1]


def test_a_prediction_leaves_no_fake_tensors_behind(task):
    """A method's caches must not hold tensors without values."""
    config = configuration(task, "subspace")
    assert predict(config).peak == predict(config).peak
    prepared = RandomWeights(task.meta_model())
    attachment = config.adapter.attach(prepared.backbone)
    loss = prepared.loss(next(prepared.batches(0, 0, 2)))
    attachment.detach()
    assert torch.isfinite(loss)


@pytest.mark.parametrize("metadata", [None, {"adapter": '{"rank": 4, "täg": "ü"}'}])
def test_size_of_a_safetensors_file(tmp_path, metadata):
    tensors = {"a.weight": torch.zeros(3, 5), "b": torch.zeros(7, dtype=torch.bfloat16), "seed": torch.tensor(3)}
    save_file(tensors, tmp_path / "file", metadata=metadata)
    assert safetensors_size(tensors, metadata) == (tmp_path / "file").stat().st_size


@pytest.mark.parametrize("method", ["lora", "prefix", "subspace"])
def test_size_of_the_adapter_file_is_predicted(task, method, tmp_path):
    config = configuration(task, method)
    attachment = config.adapter.attach(RandomWeights(task.meta_model()).backbone)
    save_file(attachment.state(), tmp_path / "file", metadata=adapter_metadata(config))
    assert predict(config).files["adapter.safetensors"] == (tmp_path / "file").stat().st_size
    assert adapter_files(config, attachment)["adapter.safetensors"] == (tmp_path / "file").stat().st_size
