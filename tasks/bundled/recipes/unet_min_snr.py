"""The bundled UNet trained further, with min-SNR weights and as many objects as icons.

The weights take effort from what noise hides anyway, for what a picture shows.

`python -m tasks.bundled.build unet-min-snr`, 1 to 2 hours on two cores, after unet; build vae-decoder after it.
"""

from pathlib import Path

from tasks.bundled.pretraining import Recipe
from tasks.bundled.recipes import unet

EXPECTED = "1 to 2 hours on two cores"
PHASE = unet.Phase(
    Recipe(steps=1500, learning_rate=5e-4, ema_decay=0.9995, checkpointing_steps=125),
    batch=(32, 32),
    snr_gamma=5.0,  # Hang et al. 2023, section 3.4
    continues=True,
)


def build(target: Path, work: Path) -> dict:
    return unet.build(target, work, PHASE)
