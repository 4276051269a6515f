"""The evaluation's memory: a plan against the real pipeline, beam search and likelihoods, under the same tracker."""

from __future__ import annotations

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

    task = Pokemon(test_items=40, drift_items=0).filled()
    base = LoadedStableDiffusion(task.base, CPU).base
    sampling = Sampling(2, task.guidance_scale or 1.0, batch=100)
    parts = (base.unet, base.vae, base.text_encoder)
    measured = tracked(parts, lambda: sample(base, ["a red creature"] * 40, sampling))
    sampled = predicted("full", task, "sampling of 40")
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
    from tasks.language.model import bases, likelihood

    task = EndToEnd(test_items=24, max_new_tokens=24)
    base = bases.load(task.base, CPU)
    rows = [([5] * 24, [6] * 24)] * 15 + [([5] * 24, [6] * 23)]
    measured = tracked([base.model], lambda: likelihood.losses(base, rows))
    assert predicted("full", task, "likelihood of 16 rows") == pytest.approx(measured, rel=0.05)
