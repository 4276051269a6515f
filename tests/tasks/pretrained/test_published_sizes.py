"""Published architectures, at their real widths and without their weights, through the code path of real ones."""

import json
import sys
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tasks.pretrained.published.write import write

pytestmark = pytest.mark.slow


def run(monkeypatch, runs, *words):
    """The command `python -m experiments.run` with two steps; the run's folder and record."""
    from experiments.run import main

    options = ["--train.steps", "2", "--train.batch-size", "1", "--train.device", "cpu", "--runs", str(runs)]
    monkeypatch.setattr(sys, "argv", ["run", *words, *options])
    main()
    (file,) = runs.rglob("result.json")
    record = json.loads(file.read_text())
    assert record["status"] == "finished"
    return file.parent, record


def test_stable_diffusion_reduced_in_depth_alone(tmp_path, monkeypatch):
    """Two steps, sampling, the diffusers file, and diffusers' own pipeline giving the picture that we gave."""
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
    from PIL import Image

    from tasks.diffusion.model.sampling import noise_seed

    base = tmp_path / "sd-1-5"
    write("sd-1-5", base, precision="fp16", shallow=True)
    sizes = "--task.resolution 512 --task.train-items 2 --task.validation-items 1 --task.test-items 1"
    sampling = "--task.drift-items 0 --task.num-inference-steps 2 --task.guidance-scale 1 --adapter.rank 4"
    words = ["lora", "sd-pokemon", "--task.base", str(base), *sizes.split(), *sampling.split()]
    folder, record = run(monkeypatch, tmp_path / "runs", *words)
    assert record["metrics"]["clip_score"]["n"] == 1
    assert sum(t.numel() for t in load_file(folder / "adapter.safetensors").values()) == _lora_parameters(base, 4)
    pipeline: Any = StableDiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32)
    pipeline.scheduler = DPMSolverMultistepScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(folder)
    generator = torch.Generator().manual_seed(noise_seed(0, 0))
    prompt = record_prompt(folder)
    theirs = pipeline(prompt, num_inference_steps=2, guidance_scale=1.0, generator=generator).images[0]
    ours = Image.open(folder / "samples" / "0.png")
    assert ours.size == theirs.size == (512, 512)
    difference = [abs(a - b) for a, b in zip(ours.tobytes(), theirs.tobytes(), strict=True)]
    assert max(difference) <= 2


def record_prompt(folder):
    import pandas as pd

    return pd.read_parquet(folder / "items.parquet")["prompt"][0]


def _lora_parameters(base, rank):
    """rank x (in + out) of every query, key, value and output of the attention layers, from the file's own shapes."""
    weights = load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    names = ("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")
    return sum(rank * sum(weight.shape) for name, weight in weights.items() if name.endswith(names))


def test_gpt2_whole(tmp_path, monkeypatch):
    """124M parameters; after two steps a peft folder that peft loads and that changes the model's output."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tmp_path / "gpt2"
    write("gpt2", base)
    text = tmp_path / "text.txt"
    text.write_text("".join(f"line {i} of {i * i} sheep and {i % 7} goats\n" for i in range(1400)))
    sizes = ["--task.data", str(text), "--task.max-length", "32", "--task.test-items", "2", "--task.drift-items", "2"]
    folder, record = run(monkeypatch, tmp_path / "runs", "lora", "style", "--task.base", str(base), *sizes)
    assert record["parameters"]["total"] - record["parameters"]["trainable"] == 124_439_808
    model = AutoModelForCausalLM.from_pretrained(base)
    tokens = torch.arange(8)[None]
    with torch.no_grad():
        before = model(tokens).logits
        after = PeftModel.from_pretrained(model, str(folder))(tokens).logits
    assert not torch.equal(before, after)
