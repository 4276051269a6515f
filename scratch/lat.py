"""lat.py RUN|BASE n out.pt guidance steps [objects|creatures]: latents of samples of held-out captions."""
import sys, torch
from pathlib import Path
from tasks.bundled import pictures
from tasks.diffusion.model.sampling import *
from tasks.diffusion.model import sampling, bases
torch.set_num_threads(1)
run, n, out, g, steps = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]), int(sys.argv[5])
world = sys.argv[6] if len(sys.argv) > 6 else "creatures"
if (Path(run) / "model_index.json").exists():
    base = bases.load(run, torch.device("cpu"))
else:
    base = None
if world == "creatures":
    from tasks.diffusion.worlds.creatures import Creatures as W; ref = pictures.creatures(500, 778, True).pixels
    prompts = pictures.drawn(W(), n, 777, True, True).captions
else:
    from tasks.diffusion.worlds.objects import Objects as W; ref = pictures.objects(500, 779).pixels
    prompts = pictures.drawn(W(), n, 777, None, True).captions
from tasks.diffusion.model.stable_diffusion import StableDiffusion
kept = []
original = StableDiffusion.decode_batch
def spy(self, latents):
    kept.append(latents.detach().clone()); return original(self, latents)
StableDiffusion.decode_batch = spy
if isinstance(base, StableDiffusion):
    sample(base, prompts, Sampling(steps, g))
else:
    base = __import__("experiments.records.load_run", fromlist=["load_run"]).load_run(run, "cpu")
    base.base.sample(prompts, num_inference_steps=steps, guidance_scale=g, seed=0)
z = torch.cat(kept); print(z.shape)
torch.save((z, ref), out)
