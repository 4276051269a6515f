"""Build one part of the bundled bases: `python -m tasks.bundled.build PART`. Resumes where it was interrupted."""

import argparse
import importlib
import json
import shutil
from pathlib import Path

HERE = Path(__file__).parent
PARTS = {
    "text-encoder": "text_encoder",
    "vae": "vae",
    "unet": "unet",
    "scorer": "scorer",
    "classifier": "classifier",
    "gpt-mini": "gpt_mini",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tasks.bundled.build", description=__doc__)
    parser.add_argument("part", choices=PARTS, help="what to build; the UNet needs the VAE and the text encoder")
    parser.add_argument("--work", type=Path, default=Path("build"), help="checkpoints and logs (default: build)")
    parser.add_argument("--target", type=Path, default=HERE, help="where the part is written")
    arguments = parser.parse_args()
    recipe = importlib.import_module(f"tasks.bundled.recipes.{PARTS[arguments.part]}")
    print(f"{arguments.part}: expected {recipe.EXPECTED}")
    work = arguments.work / arguments.part
    figures = recipe.build(arguments.target, work)
    cards = arguments.target / "figures.json"
    known = json.loads(cards.read_text()) if cards.exists() else {}
    known[arguments.part] = figures
    cards.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    shutil.copy(work / "log.jsonl", arguments.target / "logs" / f"{arguments.part}.jsonl")
    (work / "checkpoint.pt").unlink()
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
