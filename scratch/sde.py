"""sde.py RUN g: real latents noised to step k of the sampler, the rest sampled; KID and latent mse by k."""
import sys, torch
from pathlib import Path
from tasks.bundled import pictures
from tasks.diffusion.worlds.creatures import Creatures
from tasks.diffusion.worlds.objects import Objects
from diffusers import DPMSolverMultistepScheduler, AutoencoderKL
sys.path.insert(0, "/work"); from kidz import fastkid
torch.set_num_threads(1)
run, g, world, n = sys.argv[1], float(sys.argv[2]), sys.argv[3], int(sys.argv[4])
from tasks.diffusion.model import bases
if (Path(run) / "model_index.json").exists():
    b = bases.load(run, torch.device("cpu")); pipe = b.pipeline()
else:
    from experiments.records.load_run import load_run
    pipe = load_run(run, "cpu").pipeline()
unet, vae = pipe.unet, pipe.vae
W = {"creatures": Creatures, "objects": Objects}[world]; ho = True if world == "creatures" else None
real = pictures.drawn(W(), n, 777, ho, True); ref = pictures.drawn(W(), 500, 778, ho).pixels
tok = pipe.tokenizer([*real.captions, ""], padding="max_length", max_length=pipe.tokenizer.model_max_length, truncation=True, return_tensors="pt").input_ids
with torch.no_grad():
    txt = torch.cat([pipe.text_encoder(t)[0] for t in tok.split(100)])
    txt, empty = txt[:-1], txt[-1:]
    x = real.scaled(slice(None)).float()
    lat = torch.cat([vae.encode(p).latent_dist.mean for p in x.split(100)])
    dec = lambda z: ((torch.cat([vae.decode(p).sample for p in z.split(100)]).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    print("scheduler", type(pipe.scheduler).__name__, "std by channel", lat.std(dim=(0, 2, 3)).tolist(), flush=True)
    print("recon", fastkid(dec(lat), ref), flush=True)
    sched = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    for k in map(int, sys.argv[5:]):
        sched.set_timesteps(12); ts = sched.timesteps[k:]
        torch.manual_seed(1); noise = torch.randn_like(lat)
        outs = []
        for i in range(0, n, 100):
            sched.set_timesteps(12); sched.set_begin_index(k)
            z = sched.add_noise(lat[i:i+100], noise[i:i+100], ts[:1].expand(len(lat[i:i+100]))) if k else noise[i:i+100]
            for t in ts:
                tt = t.expand(len(z))
                v = unet(z, tt, txt[i:i+100]).sample
                if g != 1: u = unet(z, tt, empty.expand(len(z), -1, -1)).sample; v = u + g * (v - u)
                z = sched.step(v, t, z).prev_sample
            outs.append(z)
        z = torch.cat(outs)
        torch.save((z, ref), f"/work/z_sde_{world}_{k}.pt")
        print("from step", k, "t", int(ts[0]), "KID", fastkid(dec(z), ref), "mse by channel", [round(a, 3) for a in (z - lat).square().mean(dim=(0, 2, 3)).tolist()], flush=True)
