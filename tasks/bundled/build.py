"""Pretrain one part of the bundled bases: `python -m tasks.bundled.build PART`.

Each recipe prints its expected time, between 4 and 47 minutes on one or two CPU cores. An interrupted build resumes
from its last checkpoint.
"""

import importlib
import json
import shutil
from pathlib import Path

from tasks.bundled.bundled_bases import CLASSIFIER, LANGUAGE_MODEL, SCORER, STABLE_DIFFUSION
from tasks.command_parser import CommandParser

HERE = Path(__file__).parent
RECIPES = {  # module in tasks/bundled/recipes
    "text-encoder": "text_encoder",
    "vae": "vae",
    "unet": "unet",
    SCORER.name: "scorer",
    CLASSIFIER.name: "classifier",
    LANGUAGE_MODEL: "gpt_mini",
}
NEEDED = {"unet": ("vae", "text_encoder")}  # folders of the bundled Stable Diffusion


def build(part: str, work: Path, target: Path = HERE) -> None:
    """Pretrain one part with checkpoints below `work`, and write it and its figures to `target`."""
    recipe = importlib.import_module(f"tasks.bundled.recipes.{RECIPES[part]}")
    print(f"{part}: expected {recipe.EXPECTED}")
    figures = recipe.build(target, work / part)
    file = target / "figures.json"
    all_figures = json.loads(file.read_text()) if file.exists() else {}
    all_figures[part] = figures
    file.write_text(json.dumps(all_figures, indent=2, sort_keys=True) + "\n")
    shutil.copy(work / part / "log.jsonl", target / "logs" / f"{part}.jsonl")
    (work / part / "checkpoint.pt").unlink()
    print(json.dumps(figures, indent=2))


def main() -> None:
    parser = CommandParser("python -m tasks.bundled.build", "Pretrain one part of the bundled bases.")
    parser.add_argument("part", choices=RECIPES, help="the part; the UNet needs the VAE and the text encoder")
    parser.add_argument("--work", type=Path, default=Path("build"), help="folder for checkpoints and logs")
    parser.add_argument("--target", type=Path, default=HERE, help="folder to write the part to")
    options = parser.parse_args()
    missing = [part for part in NEEDED.get(options.part, ()) if not (options.target / STABLE_DIFFUSION / part).is_dir()]
    if missing:
        parser.error(f"{options.part} needs {' and '.join(missing)} in {options.target}: build them first")
    build(options.part, options.work, options.target)


if __name__ == "__main__":
    main()
