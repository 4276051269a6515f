"""dec2.py START OUT steps lr mode(white|pink|unet) sigma"""
import sys, time, torch, torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel, DDPMScheduler, DPMSolverMultistepScheduler
from tasks.bundled import pictures
from tasks.bundled.pretraining import channels_last
from tasks.bundled.recipes import unet as U
from tasks.bundled.recipes.vae import mirrored, reconstruction_loss
BATCH = (3, 1, 2)
start, out, steps, lr, mode, sigma = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), sys.argv[5], float(sys.argv[6])
torch.set_num_threads(1); torch.manual_seed(0)
pixels, counts = torch.load("/work/vae_pixels.pt")
training = pictures.PictureSet(pixels, [], [])
vae = channels_last(AutoencoderKL.from_pretrained(start, torch_dtype=torch.float32))
vae.encoder.requires_grad_(False); vae.quant_conv.requires_grad_(False)
params = [*vae.decoder.parameters(), *vae.post_quant_conv.parameters()]
opt = torch.optim.AdamW(params, lr=lr, weight_decay=0, betas=(.9, .99), fused=True)
sch = torch.optim.lr_scheduler.LambdaLR(opt, lambda i: min(1, (i+1)/50) * max(.05, 1 - i/steps))
ema = [p.detach().clone() for p in params]
if mode == "unet":
    net = channels_last(UNet2DConditionModel.from_pretrained("/work/base64/mini/unet", torch_dtype=torch.float32)).eval().requires_grad_(False)
    d = DPMSolverMultistepScheduler.from_config(DDPMScheduler(**U.SCHEDULER).config)
    empty = torch.load("/work/proxy_data.pt")[1][-1:].float()
def damaged(lat):
    n = len(lat)
    if mode in ("white", "unet"):
        z = lat + sigma * torch.rand(n, 1, 1, 1) * torch.randn_like(lat)
    if mode == "pink":
        z = lat
        for scale, share in ((1, 1.), (2, 1.), (4, .7)):
            e = torch.randn(n, 8, 16 // scale, 16 // scale)
            if scale > 1: e = F.interpolate(e, size=(16, 16), mode="bicubic")
            z = z + sigma * share * torch.rand(n, 1, 1, 1) * e
    if mode == "unet":
        k = 8 + int(torch.randint(0, 4, (1,)))
        h = n // 2 + 1; which = torch.randperm(n)[:h]
        d.set_timesteps(12); ts = d.timesteps[k:]; d.set_begin_index(k)
        x = d.add_noise(lat[which], torch.randn(h, 8, 16, 16), ts[:1].expand(h))
        for t in ts: x = d.step(net(x.contiguous(memory_format=torch.channels_last), t.expand(h), empty.expand(h, -1, -1)).sample, t, x).prev_sample
        z[which] = x
    return z.contiguous(memory_format=torch.channels_last)
t0 = time.time()
for step in range(steps):
    torch.manual_seed(step + 10**6)
    real = mirrored(training.scaled(pictures.mixed_indices(step + 10**6, counts, BATCH)), step)
    with torch.no_grad(): lat = damaged(vae.encode(real).latent_dist.mean.float())
    rec = reconstruction_loss(vae.decode(lat).sample, real)
    rec.backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step(); opt.zero_grad(); sch.step()
    with torch.no_grad(): torch._foreach_lerp_(ema, params, 1 - min(.995, step / (step + 10)))
    if step % 100 == 0: print(step, f"{time.time()-t0:.0f}s rec {rec.item():.4f}", flush=True)
for p, e in zip(params, ema): p.data.copy_(e)
vae.save_pretrained(out)
