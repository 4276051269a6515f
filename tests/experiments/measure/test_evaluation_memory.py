"""The evaluation's memory: a plan against the real pipeline, beam search and likelihoods, under the same tracker."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from adapters.base import adapter_registry
from experiments.config import RunConfig, Train
from experiments.measure.memory.prediction import predict
from experiments.training.memory_tracker import MemoryTracker
from tasks.diffusion.pokemon import Pokemon
from tasks.language.e2e import EndToEnd

CPU = torch.device("cpu")


def tracked(model_parts, run) -> int:
    """The peak in bytes while `run()` runs, with the parts' weights."""
    tracker = MemoryTracker()
    for part in model_parts:
        tracker.add([*part.parameters(), *part.buffers()], "weights")
    with tracker:
        run()
    return sum(tracker.peak.values())


def predicted(method, task, word: str, **settings) -> int:
    adapter = adapter_registry()[method](**settings)
    phases = predict(RunConfig(adapter, task, Train(device="cpu", batch_size=1)).resolved()).phases
    return next(phase.peak for phase in phases if word in phase.name and "between steps" not in phase.name)


def test_sampling_and_decoding_with_the_pipeline():
    """Full fine-tuning: its weights are the model's own, so nothing is copied for a merge."""
    from tasks.diffusion.model.loaded_base import LoadedStableDiffusion
    from tasks.diffusion.model.sampling import Sampling, sample

    count = 10
    task = Pokemon(test_items=count, drift_items=0).filled()
    base = LoadedStableDiffusion(task.base, CPU).base
    sampling = Sampling(2, task.guidance_scale or 1.0, batch=100)
    parts = (base.unet, base.vae, base.text_encoder)
    measured = tracked(parts, lambda: sample(base, ["a red creature"] * count, sampling))
    sampled = predicted("full", task, f"sampling of {count} ")
    decoded = predicted("full", task, "decoding")
    assert max(sampled, decoded) == pytest.approx(measured, rel=0.05)


def test_beam_search_of_transformers():
    """The last step of the beam search holds the whole cache."""
    from tasks.language.model import bases
    from tasks.language.model.generation import BeamSearch, generate

    task = EndToEnd(test_items=24, num_beams=4, max_new_tokens=24)
    base = bases.load(task.base, CPU)
    prompts = [[5 + i] * 24 for i in range(24)]
    search = BeamSearch(4, 0.9, 0, 24)
    measured = tracked([base.model], lambda: generate(base, prompts, search))
    expected = max(predicted("full", task, "beam search"), predicted("full", task, "reading"))
    assert expected == pytest.approx(measured, rel=0.1)


def test_likelihoods():
    """General English has the longest rows of an evaluation."""
    from tasks.language.data import general_english
    from tasks.language.model import bases, likelihood

    task = EndToEnd(test_items=24, max_new_tokens=24)
    base = bases.load(task.base, CPU)
    rows = likelihood.document_rows(base, general_english.texts(task.drift_items), base.positions // 2)
    measured = tracked([base.model], lambda: likelihood.losses(base, rows))
    assert predicted("full", task, "likelihood of 16 rows of 128") == pytest.approx(measured, rel=0.05)


def test_no_text_of_general_english_is_longer_than_a_plan_assumes():
    from tasks.language.data import general_english
    from tasks.language.model import bases

    base = bases.load("gpt-mini", CPU)
    lengths = [len(base.document_ids(text)) for text in general_english.texts(10**6)]
    assert 0.9 * general_english.LONGEST < max(lengths) <= general_english.LONGEST


def described(cache: Any) -> list[tuple[torch.Size, torch.dtype]]:
    """The shape of the keys and the dtype of the values of each layer."""
    return [(keys.shape, values.dtype) for keys, values, *_ in cache]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", ["llama", "gemma3_text", "gpt2"])
def test_a_planned_cache_is_what_the_model_caches(kind, dtype):
    """Its heads, its width and the dtype of its weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    from tasks.language.model.meta_model import filled_cache

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 500}
    more = {} if kind == "gpt2" else {"intermediate_size": 64, "num_key_value_heads": 1, "head_dim": 24}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **sizes, **more), dtype=dtype).eval()
    real = model(input_ids=torch.ones(3, 7, dtype=torch.long), use_cache=True).past_key_values
    planned = described(filled_cache(model, 3, 7, CPU))
    assert planned == described(real)
    assert {each for _, each in planned} == {dtype}
