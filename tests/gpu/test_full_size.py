"""Published sizes, random weights: the peak beside the plan's, speed by precision and beside diffusers' script."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from adapters.lora import Lora
from experiments import RunConfig, Train, run
from experiments.planning.memory_plan import PlanSettings, plan
from tasks import Pokemon
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, published
from tasks.pretrained.published.write import write

SCRIPT = "DIFFUSERS_SCRIPT"  # the environment variable with the path of train_text_to_image_lora.py
ITEMS: dict[str, Any] = {"train_items": 8, "validation_items": 1, "test_items": 0, "drift_items": 0}


@pytest.fixture(scope="module")
def stable_diffusion(machine, tmp_path_factory) -> dict[str, Any]:
    """The task's base and resolution: Stable Diffusion 2.1 at 512 pixels; without a GPU the bundled one."""
    if machine.is_dry:
        return {"base": "mini"}
    folder = tmp_path_factory.mktemp("base") / "sd-2-1"
    write("sd-2-1", folder, "fp16")
    return {"base": str(folder), "resolution": 512}


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_the_peak_is_the_plans(machine, report, tmp_path, stable_diffusion, precision):
    if machine.is_dry and precision == "fp16":
        pytest.skip("a CPU does not train in fp16")
    task = Pokemon(**stable_diffusion, **ITEMS)
    train = Train(steps=3, batch_size=1, mixed_precision=precision, device=machine.device)
    expected = plan(RunConfig(Lora(rank=4), task, train), PlanSettings(device=machine.device)).prediction.training.peak
    record = run(Lora(rank=4), task, train, runs=tmp_path)
    assert record.status == "finished", record.data["reason"]
    measured = record.data["memory"]["peak_bytes"]
    gib = f"{measured / 2**30:.3f} GiB, predicted {expected / 2**30:.3f} ({expected / measured - 1:+.1%})"
    report(f"{task.base if machine.is_dry else 'SD 2.1, 512 px'}, LoRA, batch 1, {precision}", gib)
    if not machine.is_dry:  # on a CPU the record has the process's resident set
        assert expected == pytest.approx(measured, rel=0.1)


def language_model(machine) -> nn.Module:
    from transformers import AutoConfig, AutoModelForCausalLM

    shapes = published("gpt2-medium", LANGUAGE_MODEL)
    assert shapes is not None
    values = dict(shapes["config"])
    small = {"n_layer": 2, "n_embd": 64, "n_head": 2} if machine.is_dry else {}
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(values.pop("model_type"), **values | small))


def test_gpt2_medium_by_precision(machine, report):
    """A step of full fine-tuning, 8 x 512 tokens, in fp32, TF32 and bf16."""
    rows = (2, 32) if machine.is_dry else (8, 512)
    model = language_model(machine).to(machine.device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens = torch.randint(0, 1000, rows, device=machine.device)
    losses = {}
    for name, matmul, autocast in (("fp32", "highest", False), ("TF32", "high", False), ("bf16", "high", True)):
        torch.set_float32_matmul_precision(matmul)
        seconds = []
        for _ in range(8):
            machine.synchronize()
            started = time.perf_counter()
            with torch.autocast(machine.device, torch.bfloat16, enabled=autocast):
                loss = model(input_ids=tokens, labels=tokens).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            machine.synchronize()
            seconds.append(time.perf_counter() - started)
        losses[name] = loss.item()
        step = sorted(seconds[3:])[2]
        report(f"gpt2-medium, full, {rows[0]} x {rows[1]}, {name}", f"{1000 * step:.1f} ms a step")
    torch.set_float32_matmul_precision("highest")
    assert all(0 < loss < 12 for loss in losses.values())


def pictures(folder: Path, count: int, size: int) -> Path:
    from PIL import Image

    folder.mkdir()
    noise = torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for number, pixels in enumerate(noise.numpy()):
        Image.fromarray(pixels).save(folder / f"{number:03d}.png")
        (folder / f"{number:03d}.txt").write_text(f"picture number {number}")
    captions = [f'{{"file_name": "{n:03d}.png", "text": "picture number {n}"}}' for n in range(count)]
    (folder / "metadata.jsonl").write_text("\n".join(captions))
    return folder


def test_samples_a_second_beside_diffusers_script(machine, report, tmp_path, stable_diffusion):
    """The script of diffusers' examples, on the same base, pictures and settings; it counts its loading of the base."""
    script = os.environ.get(SCRIPT)
    if not script:
        pytest.skip(f"{SCRIPT} does not name train_text_to_image_lora.py")
    assert not machine.is_dry, "the script is compared at full size"
    folder, steps, batch = pictures(tmp_path / "pictures", 40, 512), 30, 4
    task = Pokemon(**stable_diffusion, data=str(folder), test_items=0, drift_items=0, validation_items=1)
    train = Train(steps=steps, batch_size=batch, mixed_precision="bf16", device=machine.device)
    record = run(Lora(rank=4), task, train, runs=tmp_path / "runs")
    ours = batch / record.data["seconds"]["step_median"]

    def theirs(count: int) -> float:
        options = {
            "pretrained_model_name_or_path": stable_diffusion["base"], "train_data_dir": str(folder),
            "resolution": 512, "train_batch_size": batch, "max_train_steps": count, "mixed_precision": "bf16",
            "rank": 4, "checkpointing_steps": 10_000, "output_dir": str(tmp_path / f"theirs-{count}"),
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        started = time.perf_counter()
        subprocess.run([sys.executable, script, *words], check=True, capture_output=True)
        return time.perf_counter() - started

    few = theirs(2)
    report("SD 2.1, LoRA, batch 4: ours", f"{ours:.2f} samples a second")
    report("the same, diffusers' script", f"{batch * (steps - 2) / (theirs(steps) - few):.2f} samples a second")
