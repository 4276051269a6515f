"""proxy.py NAME arch steps batch lr [snr]"""
import sys; sys.path.insert(0, "/work"); import time, torch, torch.nn.functional as F
from pathlib import Path
from diffusers import UNet2DConditionModel, DDPMScheduler, DPMSolverMultistepScheduler, AutoencoderKL
from tasks.bundled import pictures
from tasks.bundled.pretraining import channels_last
from tasks.bundled.recipes import unet as U
torch.set_num_threads(1)
name, arch, steps, batch, lr = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), float(sys.argv[5])
gamma = float(sys.argv[6]) if len(sys.argv) > 6 else 0
f = Path("/work/proxy_data.pt")
if not f.exists():
    mini = Path("/work/base64/mini"); tr = pictures.objects(8000); pr = pictures.objects(512, pictures.PROBE_SEED)
    from diffusers import AutoencoderKL
    from transformers import CLIPTextModel, CLIPTokenizer
    from tasks.diffusion.model.encoding import encode_captions
    te = CLIPTextModel.from_pretrained(mini / "text_encoder", dtype=torch.float32).eval(); tk = CLIPTokenizer.from_pretrained(mini / "tokenizer")
    enc = lambda cs: torch.cat([encode_captions(te, tk, p).half() for p in U._parts(cs, 1000)])
    torch.save((U._moments(mini, tr.pixels), enc([*tr.captions, ""]), U._moments(mini, pr.pixels), enc([*pr.captions, ""]), pictures.objects(500, 779).pixels), f)
mom, txt, pmom, ptxt, ref = torch.load(f)
if arch == "data": sys.exit()
torch.manual_seed(0)
common = dict(norm_num_groups=16, layers_per_block=1, cross_attention_dim=128, attention_head_dim=4, use_linear_projection=True)
fold = 1
if arch == "B": net = U.make_unet()
elif arch == "W":
    from widen import widened; net = channels_last(widened(UNet2DConditionModel.from_pretrained("/work/base64/mini/unet", torch_dtype=torch.float32)))
elif arch == "C": net = channels_last(UNet2DConditionModel.from_pretrained("/work/base64/mini/unet", torch_dtype=torch.float32))
else:
    fold = 2
    ch = {"A": (128, 192), "A160": (160, 192), "A144": (144, 208)}[arch]
    net = channels_last(UNet2DConditionModel(sample_size=8, in_channels=32, out_channels=32, down_block_types=("CrossAttnDownBlock2D",) * 2, up_block_types=("CrossAttnUpBlock2D",) * 2, block_out_channels=ch, **common))
F_ = (lambda z: F.pixel_unshuffle(z, 2).contiguous(memory_format=torch.channels_last)) if fold == 2 else (lambda z: z)
G_ = (lambda z: F.pixel_shuffle(z, 2)) if fold == 2 else (lambda z: z)
sch = DDPMScheduler(**U.SCHEDULER); ab = sch.alphas_cumprod
def loss_fn(m, s, weigh=False, t=None):
    lat = m[:, 0] + m[:, 1] * torch.randn_like(m[:, 1]); noise = torch.randn_like(lat)
    if t is None: t = torch.randint(0, 1000, (len(lat),))
    noisy = sch.add_noise(lat, noise, t).contiguous(memory_format=torch.channels_last)
    out = G_(net(F_(noisy), t, s).sample)
    l = (out - sch.get_velocity(lat, noise, t)).square().mean(dim=(1, 2, 3))
    if weigh and gamma:
        snr = ab[t] / (1 - ab[t]); l = l * snr.clamp(max=gamma) / (snr + 1)
    return l
opt = torch.optim.AdamW(net.parameters(), lr=lr, weight_decay=.01, betas=(.9, .99), fused=True)
lrs = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1, (i + 1) / 100) * (.05 + .95 * .5 * (1 + __import__("math").cos(3.14159 * i / steps))))
print(name, arch, sum(p.numel() for p in net.parameters()), flush=True)
def probe():
    net.eval(); out = {}
    with torch.no_grad():
        torch.manual_seed(0)
        ts = torch.arange(512) * 1000 // 512
        l = torch.cat([loss_fn(pmom[i:i+128].float(), ptxt[i:i+128].float(), t=ts[i:i+128]) for i in range(0, 512, 128)])
    net.train()
    return round(l.mean().item(), 4), [round(x.mean().item(), 4) for x in l.split(128)]
print("start", *probe()); t0 = time.time(); spent = 0
for step in range(steps):
    torch.manual_seed(step); i = torch.randint(0, len(mom), (batch,)); s = txt[i].float(); s[torch.rand(batch) < .1] = txt[-1].float()
    loss = loss_fn(mom[i].float(), s, True).mean(); loss.backward(); torch.nn.utils.clip_grad_norm_(net.parameters(), 1.); opt.step(); opt.zero_grad(); lrs.step()
    if step % 100 == 99: print(step + 1, f"{time.time() - t0:.0f}s", *probe(), flush=True)
torch.save(net.state_dict(), f"/work/proxy_{name}.pt")
sys.path.insert(0, "/work"); from kidz import fastkid
net.eval(); d = DPMSolverMultistepScheduler.from_config(sch.config)
vaes = [AutoencoderKL.from_pretrained(p, torch_dtype=torch.float32).eval() for p in ("/work/vae_before_decoder", "/work/vae_u")]
with torch.no_grad():
    for g in (1, 2):
        torch.manual_seed(5); out = []
        for i in (0, 100):
            z = torch.randn(100, 8, 16, 16); d.set_timesteps(12); s = ptxt[i:i+100].float(); e = ptxt[-1:].float().expand(100, -1, -1)
            for t in d.timesteps:
                run = lambda c: G_(net(F_(z.contiguous(memory_format=torch.channels_last)), t.expand(100), c).sample)
                v = run(s)
                if g > 1: u = run(e); v = u + g * (v - u)
                z = d.step(v, t, z).prev_sample
            out.append(z)
        z = torch.cat(out)
        for v in vaes:
            x = ((torch.cat([v.decode(p).sample for p in z.split(100)]).clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
            print(name, "g", g, "KID", fastkid(x, ref), flush=True)
