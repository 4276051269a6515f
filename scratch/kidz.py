"""kidz.py VAE z.pt…: KID of saved latents with another decoder; also of encoded real test pictures."""
import sys, torch, json
from diffusers import AutoencoderKL
from tasks.bundled import pictures
from tasks.bundled.recipes.vae import kid, psnr, reconstruct
import tasks.bundled.recipes.vae as v
torch.set_num_threads(1)
def fastkid(a, b):
    from tasks.diffusion.evaluation.features import EfficientNetLite0
    global E
    if "E" not in globals(): E = EfficientNetLite0()
    def f(x): return torch.cat([E(p) for p in x.split(250)]).double()
    x, y = f(a), f(b); d = x.shape[1]
    k = lambda p, q: (p @ q.T / d + 1) ** 3
    n, m = len(x), len(y); xx, yy = k(x, x), k(y, y)
    return round(1000 * ((xx.sum() - xx.trace()) / (n*(n-1)) + (yy.sum() - yy.trace()) / (m*(m-1)) - 2*k(x, y).mean()).item(), 1)
if __name__ == "__main__":
    vae = AutoencoderKL.from_pretrained(sys.argv[1], torch_dtype=torch.float32).eval()
    for file in sys.argv[2:]:
        z, refs = torch.load(file)
        with torch.no_grad(): x = torch.cat([vae.decode(p).sample for p in z.split(100)])
        x = ((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
        print(sys.argv[1], file, fastkid(x, refs), flush=True)
    real = pictures.creatures(300, 777, True); other = pictures.creatures(500, 778, True)
    print(sys.argv[1], "reconstruction", fastkid(reconstruct(vae, real.scaled(slice(None))), other.pixels), psnr(vae, {"creatures": real}), flush=True)
