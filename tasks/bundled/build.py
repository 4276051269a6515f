"""Pretrain one part of the bundled bases: `python -m tasks.bundled.build PART`.

Each recipe prints its expected time, from 4 minutes (text-encoder) to 47 (gpt-mini) on one or two CPU cores. An
interrupted build resumes from its last checkpoint.
"""

import argparse
import importlib
import json
import shutil
from pathlib import Path

from tasks.bundled.bases import LANGUAGE_MODEL

HERE = Path(__file__).parent
PARTS = {
    "text-encoder": "text_encoder",
    "vae": "vae",
    "unet": "unet",
    "scorer": "scorer",
    "classifier": "classifier",
    LANGUAGE_MODEL: "gpt_mini",
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tasks.bundled.build", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("part", choices=PARTS, help="the part to build; the UNet needs the VAE and the text encoder")
    parser.add_argument(
        "--work", type=Path, default=Path("build"), help="folder for checkpoints and logs (default: build)"
    )
    parser.add_argument("--target", type=Path, default=HERE, help="folder to write the part to")
    arguments = parser.parse_args()
    recipe = importlib.import_module(f"tasks.bundled.recipes.{PARTS[arguments.part]}")
    print(f"{arguments.part}: expected {recipe.EXPECTED}")
    work = arguments.work / arguments.part
    figures = recipe.build(arguments.target, work)
    file = arguments.target / "figures.json"
    all_figures = json.loads(file.read_text()) if file.exists() else {}
    all_figures[arguments.part] = figures
    file.write_text(json.dumps(all_figures, indent=2, sort_keys=True) + "\n")
    shutil.copy(work / "log.jsonl", arguments.target / "logs" / f"{arguments.part}.jsonl")
    (work / "checkpoint.pt").unlink()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
